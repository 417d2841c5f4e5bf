"""A full fine-tune on the whole product whose model is published by a Pod without GPUs, and what becomes of it where that fails."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from demo.checks import folder_digest
from tests.cluster.client import GARBAGE_SECONDS, eventually
from tests.e2e.product import Product

pytestmark = pytest.mark.e2e

FULL = {
    "method": "full", "training": {"maxSteps": 6, "globalBatchSize": 4, "sequenceLength": 64, "learningRate": "5e-4"},
}  # fmt: skip


def test_a_model_is_published_without_a_gpu(product: Product):
    """The attempt is paid for and gone before the Pod comes that publishes. What it publishes loads, and is not the base model."""
    product.submit("left", **FULL)
    status = product.finish("left")
    (artifact,) = status["artifacts"]
    folder = Path(artifact["uri"].removeprefix("file://"))

    assert product.condition(status, "Succeeded") == ("True", "Published", f"published at {artifact['uri']}")
    assert status["attempts"][0]["handedOver"]
    assert status["plan"]["export"]["publishes"]
    (pod,) = product.pods("left", "export")
    assert set(pod["spec"]["containers"][0]["resources"]["limits"]) == {"cpu", "memory", "ephemeral-storage"}
    assert folder_digest(folder) == artifact["digest"]
    assert float(status["evaluation"]["tunedLoss"]) < float(status["evaluation"]["baseLoss"])
    manifest = json.loads((product.folder / "left/finetune-manifest.json").read_text())
    assert manifest["steps"] == 6
    tokens = torch.tensor([[10, 20, 30]])
    base, tuned = (AutoModelForCausalLM.from_pretrained(place)(tokens).logits for place in (product.model, folder))
    assert not torch.allclose(base, tuned)
    assert not (product.folder / "left/.checkpoints/result-attempt-0").exists()


def test_a_job_whose_model_could_not_be_published_is_applied_again_and_trains_nothing_again(product: Product):
    """The remedy that its message names. Meanwhile somebody has damaged what the attempt left."""
    checkpoints = product.folder / "damaged/.checkpoints"
    product.submit("damaged", **FULL)
    eventually(lambda: product.pods("damaged"), "its trainer is there", 300)
    product.operator.kill()
    eventually((checkpoints / "result-attempt-0/COMPLETE").exists, "the model is left", 300)
    shutil.rmtree(checkpoints / "result-attempt-0/model")
    product.operator.start()
    status = product.until("damaged", lambda status: status.get("phase") == "Failed", "Failed")

    end = product.condition(status, "Succeeded")
    assert end[:2] == ("False", "PublishFailed")
    assert end[2].startswith(f"the model could not be published: file://{checkpoints}/result-attempt-0 is damaged: ")
    assert "delete the job, without its checkpoints, and apply it again" in end[2]
    product.delete("damaged")
    eventually(lambda: not product.pods("damaged"), "its Pods are gone", GARBAGE_SECONDS)
    product.submit("damaged", **FULL)
    again = product.finish("damaged")

    assert product.condition(again, "Succeeded")[:2] == ("True", "Published")
    assert (again["attempts"][0]["firstStep"], again["attempts"][0]["handedOver"]) == (6, True)
