"""From a finished run to a served model, on the whole product: exported without a GPU, made again without training, asked."""

import json
from pathlib import Path

import pytest
from finetune_operator.cli.app import app
from typer.testing import CliRunner

from demo.checks import folder_digest
from tests.cluster.client import GARBAGE_SECONDS, eventually
from tests.e2e.product import Product
from tests.trainer.test_combining import updates

pytestmark = pytest.mark.e2e


def test_a_merged_model_is_exported_and_made_again_without_training(product: Product):
    """The adapter first, then a Pod without GPUs; applied again with another place in the list, one CPU Pod makes what is missing."""
    where = ("-n", product.namespace, "--kubeconfig", str(product.cluster.kubeconfig))
    destination = f"file://{product.folder}/exported"
    product.submit("exported", output={"destination": destination, "exports": ["merged"]})
    status = product.finish("exported")
    adapter, merged = status["artifacts"]

    assert product.condition(status, "Succeeded") == (
        "True", "Published", f"published at {destination}/adapter, and as merged",
    )  # fmt: skip
    assert (merged["kind"], merged["uri"]) == ("merged", f"{destination}/merged")
    assert folder_digest(Path(merged["uri"].removeprefix("file://"))) == merged["digest"]
    assert merged["checked"].startswith("base + adapter: ")
    (pod,) = product.pods("exported", "export")
    assert set(pod["spec"]["containers"][0]["resources"]["limits"]) == {"cpu", "memory", "ephemeral-storage"}
    log = CliRunner().invoke(app, ["logs", "exported", "--export", *where])
    assert "the merged model agrees with base and adapter" in log.output

    on_gpus = CliRunner().invoke(app, ["manifests", "exported", "--for", "vllm", *where])
    assert "GPU type local-cpu is not in the catalogue" in repr(on_gpus.exception)
    assert not (product.folder / "exported/serving").exists()  # what is not printed is not published
    said = CliRunner().invoke(app, ["manifests", "exported", "--for", "llama-cpp", *where])
    assert "Add gguf-q8_0 to output.exports" in repr(said.exception)

    product.delete("exported")
    eventually(lambda: not product.pods("exported"), "its Pods are gone", GARBAGE_SECONDS)
    (product.folder / "exported/merged/model.safetensors").unlink()
    manifest = product.folder / "exported/finetune-manifest.json"
    text = json.loads(manifest.read_text())
    text["artifacts"] = text["artifacts"][:1]
    manifest.write_text(json.dumps(text))
    product.submit("exported", output={"destination": destination, "exports": ["merged"]})
    again = product.finish("exported")

    assert product.condition(again, "Succeeded")[:2] == ("True", "AlreadyPublished")
    assert again.get("attempts") is None
    assert again["artifacts"][1]["digest"] == merged["digest"]
    assert again["artifacts"][0] == adapter


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_adapters_of_two_jobs_are_merged_measured_and_published(product: Product):
    """One Pod without GPUs and no attempt; PEFT's own arithmetic agrees with the weighted mean; another revision is refused."""
    for name in ("north", "south"):
        product.submit(name, training={"maxSteps": 6, "globalBatchSize": 4, "learningRate": "5e-3", "seed": len(name)})
    adapters = [product.finish(name)["adapterURI"] for name in ("north", "south")]
    merge = {
        "method": "average",
        "adapters": [{"source": adapters[0], "weight": "300"}, {"source": adapters[1], "weight": "100"}],
    }
    parts = {
        "training": {"sequenceLength": 64},
        "resources": {},
        "evaluation": {"maxExamples": 12, "metrics": [{"type": "rougeL"}], "maxAnswerTokens": 8},
    }
    product.submit("both", mergeOf=merge, **parts)
    status = product.finish("both")

    assert product.condition(status, "Succeeded")[:2] == ("True", "Published")
    assert (status.get("attempts"), status.get("plan")) == (None, None)
    assert [pod["metadata"]["name"] for pod in product.pods("both", "export")] == ["both-export-0"]
    assert status["evaluation"]["metrics"][0]["name"] == "rougeL"
    folders = [Path(uri.removeprefix("file://")) for uri in (*adapters, status["adapterURI"])]
    north, south, both = (updates(product.model, folder) for folder in folders)
    assert all(float((both[name] - 0.75 * north[name] - 0.25 * south[name]).abs().max()) < 1e-5 for name in both)

    config = folders[1] / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"revision": "d" * 40}))
    product.submit("strangers", mergeOf=merge, **parts)
    refused = product.condition(
        product.until("strangers", lambda status: status.get("phase") == "Failed", "Failed"), "Succeeded"
    )
    assert refused[:2] == ("False", "ModelUnsupported")
    assert (
        f"the adapter {adapters[1]} was trained on revision {'d' * 40} of its base model, but this job uses"
        in refused[2]
    )
