"""Every reason that preflight can give: found without a GPU, in words a user can act on."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.client import eventually
from tests.e2e.product import Product
from tests.servers.hub import TOKEN, Hub, serving

pytestmark = pytest.mark.e2e


def rows(folder: Path, name: str, lines: list[str]) -> dict[str, Any]:
    file = folder / name
    file.write_text("\n".join(lines))
    return {"datasets": [{"source": f"file://{file}"}]}


def strange_model(folder: Path, model: Path) -> dict[str, Any]:
    strange = folder / "strange"
    strange.mkdir()
    for file in model.iterdir():
        (strange / file.name).write_bytes(file.read_bytes())
    config = json.loads((strange / "config.json").read_text()) | {"model_type": "t5", "architectures": ["T5Model"]}
    (strange / "config.json").write_text(json.dumps(config))
    return {"model": {"source": f"file://{strange}"}}


def read_only(folder: Path) -> dict[str, Any]:
    """A file where the output folder should be: not writable even for root."""
    (folder / "a-file").write_text("")
    return {"output": {"destination": f"file://{folder}/a-file/adapter"}}


def hub_secret(product: Product, hub: Hub) -> dict[str, str]:
    """Make a Secret that leads to the test's hub, and return the reference to it."""
    product.cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "hub", "namespace": product.namespace},
            "stringData": {"HF_TOKEN": TOKEN, "HF_ENDPOINT": hub.endpoint},
        }
    )
    return {"secretName": "hub"}


def gated(product: Product, hub: Hub) -> dict[str, tuple[dict[str, Any], str]]:
    """Return jobs whose model or data is behind a gate of the hub."""
    credentials = hub_secret(product, hub)
    hub.add("org/gated", {"config.json": "{}"}, gated=True)
    hub.add("org/rows", {"train.jsonl": "{}"}, kind="dataset", gated=True)
    return {
        "gated-model": ({"model": {"source": "hf://org/gated", "credentials": credentials}}, "ModelUnauthorized"),
        "absent-model": ({"model": {"source": "hf://org/absent", "credentials": credentials}}, "ModelNotFound"),
        "gated-data": ({"datasets": [{"source": "hf://org/rows", "credentials": credentials}]}, "DatasetUnauthorized"),
    }


def refused(product: Product) -> dict[str, tuple[dict[str, Any], str]]:
    """Return spec changes and the expected terminal reason by job name."""
    folder, good = product.folder, json.dumps({"messages": [{"role": "user", "content": "hi"}]})
    return {
        "no-model": ({"model": {"source": f"file://{folder}/nothing"}}, "ModelNotFound"),
        "strange-model": (strange_model(folder, product.model), "ModelUnsupported"),
        "no-data": ({"datasets": [{"source": f"file://{folder}/nothing.jsonl"}]}, "DatasetNotFound"),
        "empty-data": (rows(folder, "empty.jsonl", []), "DatasetTooSmall"),
        "bad-row": (rows(folder, "bad.jsonl", [good, good, "{not json"]), "DatasetInvalid"),
        "no-column": (rows(folder, "columns.jsonl", [json.dumps({"city": "a", "country": "b"})]), "DatasetInvalid"),
        "no-output": (read_only(folder), "OutputNotWritable"),
    }


def test_every_reason_is_found_without_a_gpu(product: Product):
    """All the bad jobs at once: each fails with its reason and a message, and no trainer Pod ever exists."""
    with serving() as hub:
        expected = refused(product) | gated(product, hub)
        for name, (spec, _) in expected.items():
            product.submit(name, **spec)
        for name in expected:
            eventually(lambda name=name: product.status(name).get("phase") == "Failed", f"{name} fails", 420)
    found = {name: product.condition(product.status(name), "Succeeded") for name in expected}

    assert {name: condition[:2] for name, condition in found.items()} == {
        name: ("False", reason) for name, (_, reason) in expected.items()
    }
    assert [name for name, condition in found.items() if len(condition[2]) < 20] == []
    assert [pod for name in expected for pod in product.pods(name)] == []
    assert {name: status.get("attempts") for name in expected if (status := product.status(name))} == dict.fromkeys(
        expected
    )
