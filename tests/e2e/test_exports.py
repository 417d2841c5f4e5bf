"""From a finished run to a served model, on the whole product: exported without a GPU, made again without training, asked."""

import json
from pathlib import Path

import pytest
from finetune_operator.cli.app import app
from typer.testing import CliRunner

from demo.checks import folder_digest
from tests.cluster.client import GARBAGE_SECONDS, eventually
from tests.e2e.product import Product

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
