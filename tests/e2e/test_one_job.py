"""One job from YAML to adapter, and what comes after it."""

import json
from pathlib import Path

import pytest
import torch
from finetune_operator.cli.app import app
from peft import PeftModel
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from demo.checks import folder_digest
from demo.chitchat import chitchat
from demo.inputs import cache_folder
from demo.smollm2 import smollm2
from tests.cluster.client import GARBAGE_SECONDS, eventually
from tests.e2e.product import Product
from tests.servers.versitygw import S3Server

pytestmark = pytest.mark.e2e


def adapter_folder(status: dict) -> Path:
    return Path(status["adapterURI"].removeprefix("file://"))


def without_its_pods(product: Product, name: str, *options: str) -> str:
    """Delete a job's Pods and return what `finetune logs` still prints."""
    product.cluster.kubectl("delete", "pods", "-n", product.namespace, "-l", f"finetune.dev/job-name={name}")
    where = ("-n", product.namespace, "--kubeconfig", str(product.cluster.kubeconfig))
    done = CliRunner().invoke(app, ["logs", name, *options, *where])
    assert done.exit_code == 0, repr(done.exception)
    return done.output


def test_one_yaml_file_becomes_an_adapter(product: Product):
    """Preflight, plan, training, evaluation and publishing leave an adapter whose digest anyone can check."""
    product.submit("first")
    status = product.finish("first")
    (artifact,) = status["artifacts"]

    assert product.condition(status, "Succeeded")[:2] == ("True", "Published")
    assert status["preflight"]["examples"] + status["preflight"]["evaluationExamples"] <= 300
    assert status["plan"]["summary"] == "lora on 1 x local-cpu"
    assert (status["progress"]["step"], status["progress"]["percent"]) == (12, 100)
    assert [attempt["outcome"] for attempt in status["attempts"]] == ["Succeeded"]
    assert status["attempts"][0]["gpuSeconds"] > 0
    assert float(status["cost"]["costUSD"]) == pytest.approx(status["attempts"][0]["gpuSeconds"] / 100, abs=0.01)
    assert float(status["evaluation"]["tunedLoss"]) < float(status["evaluation"]["baseLoss"])
    assert folder_digest(adapter_folder(status)) == artifact["digest"]
    assert artifact["uri"] == status["adapterURI"] == f"file://{product.folder}/first/adapter"


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")  # PEFT reads transformers' old name
def test_the_published_adapter_loads_and_answers_differently(product: Product):
    """PEFT loads the folder as it is, and the logits are not the base model's."""
    product.submit("loads")
    folder = adapter_folder(product.finish("loads"))
    base = AutoModelForCausalLM.from_pretrained(product.model)
    tokens = torch.tensor([[10, 20, 30]])
    before = base(tokens).logits
    after = PeftModel.from_pretrained(base, folder)(tokens).logits

    assert not torch.allclose(before, after)


def test_applying_a_finished_run_again_uses_no_gpu(product: Product):
    """Deleted and applied again, the run is found at its destination; another run there is refused."""
    product.submit("again")
    first = product.finish("again")
    product.delete("again")
    eventually(lambda: not product.pods("again"), "its Pods are gone", GARBAGE_SECONDS)
    product.submit("again")
    second = product.finish("again")

    assert product.condition(second, "Succeeded")[:2] == ("True", "AlreadyPublished")
    assert product.pods("again") == []
    assert second.get("attempts") is None
    assert second["artifacts"] == first["artifacts"]

    other = {"training": {"maxSteps": 13}, "output": {"destination": f"file://{product.folder}/again"}}
    product.submit("intruder", **other)
    eventually(lambda: product.status("intruder").get("phase") == "Failed", "it fails")
    refused = product.condition(product.status("intruder"), "Succeeded")

    assert refused[:2] == ("False", "OutputOccupied")
    assert f"{product.namespace}/again" in refused[2]
    assert product.pods("intruder") == []


def test_two_replicas_train_one_model(product: Product):
    """Two GPUs on two nodes: two Pods find each other through the headless Service's names and train together."""
    product.submit("pair", resources={"gpus": 2, "pools": ["laptop"]})
    status = product.finish("pair")
    pods = product.pods("pair")

    assert (status["plan"]["replicas"], status["plan"]["gpusPerReplica"]) == (2, 1)
    assert sorted(pod["metadata"]["name"] for pod in pods) == ["pair-0-0", "pair-0-1"]
    assert len({pod["spec"]["nodeName"] for pod in pods}) == 2
    assert float(status["evaluation"]["tunedLoss"]) < float(status["evaluation"]["baseLoss"])


def test_output_in_a_bucket(product: Product, s3_server: S3Server):
    """Adapter, checkpoints and manifest go to S3 with the keys of a Secret."""
    product.cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "s3", "namespace": product.namespace},
            "stringData": dict(s3_server.environment),
        }
    )
    credentials = {"secretName": "s3"}
    destination = f"s3://{s3_server.bucket}/adapters/{product.namespace}"
    product.submit("bucket", output={"destination": destination, "credentials": credentials})
    status = product.finish("bucket")
    stored = s3_server.folder / s3_server.bucket / "adapters" / product.namespace

    assert status["adapterURI"] == f"{destination}/adapter"
    assert "parameters are trained" in without_its_pods(product, "bucket")
    assert "Succeeded Prepared" in without_its_pods(product, "bucket", "--preflight")
    assert folder_digest(stored / "adapter") == status["artifacts"][0]["digest"]
    assert json.loads((stored / "finetune-manifest.json").read_text())


def test_a_plan_only_job_stops_before_any_gpu(product: Product):
    """planOnly ends after the plan; setting it to false releases the job."""
    product.submit("planned", planOnly=True)
    status = product.until("planned", lambda s: s.get("plan"), "a plan")

    assert status["phase"] == "Planned"
    assert product.pods("planned") == []

    product.change("planned", {"planOnly": False})

    assert product.finish("planned")["plan"] == status["plan"]


def test_a_real_model_learns_from_real_conversations(product: Product):
    """The demo in small: two steps of SmolLM2-135M-Instruct on chitchat lower its held-out loss."""
    cache = cache_folder()
    small = {"maxSteps": 2, "globalBatchSize": 4, "sequenceLength": 64, "learningRate": "5e-4"}
    product.submit(
        "smollm2",
        model={"source": f"file://{smollm2(cache)}"},
        datasets=[{"source": f"file://{chitchat(cache, rows=150)}"}],
        training=small,
        evaluation={"maxExamples": 20, "everySteps": 2, "samples": {"prompts": ["Hi!"], "maxNewTokens": 4}},
    )
    status = product.finish("smollm2", seconds=900)

    assert status["preflight"]["architecture"]["numParameters"] == 134_515_008
    assert float(status["evaluation"]["tunedLoss"]) < float(status["evaluation"]["baseLoss"])
