"""The same file, applied again and again as people, pipelines and GitOps tools do: nothing changes, and kubectl says so."""

from typing import Any

import pytest
from finetune_operator.api.crd import crds
from finetune_operator.api.group import PLAN_KIND
from ruamel.yaml import YAML

from tests.cluster.client import FINETUNE, Client
from tests.refusals import GOOD_JOB, GOOD_POOL, REPOSITORY, changed
from tests.servers.control_plane import ControlPlane

pytestmark = pytest.mark.cluster

Raw = dict[str, Any]

SOURCE = {"source": "s3://bucket/general.jsonl", "invalidRows": {}}
LISTS = changed(
    GOOD_JOB,
    {
        "spec.datasets": [
            {"source": "s3://bucket/a.jsonl", "invalidRows": {"action": "skip"}},
            {"source": "hf://org/data"},
        ],
        "spec.chat.templateArguments": [{"name": "thinking", "value": "false"}],
        "spec.lora": {"targets": "custom", "targetModules": ["q_proj"]},
        "spec.evaluation": {
            "metrics": [
                {"name": "json", "type": "json", "source": SOURCE},
                {
                    "name": "judge",
                    "type": "judge",
                    "judge": {"endpoint": "https://judge.example.com/v1", "model": "large"},
                },
            ],
        },
        "spec.trackers": [{"type": "tensorboard"}],
        "spec.podMetadata.labels": [{"key": "team", "value": "a"}],
        "spec.runPolicy.budget.maxCostUSD": "20.00",
    },
)
"""A job with an entry in the lists whose entries have optional fields."""
POOL = changed(
    GOOD_POOL,
    {"spec.tolerations": [{"key": "nvidia.com/gpu"}, {}], "spec.nodeSelector": [{"key": "gpu", "value": "h100"}]},
)


def examples() -> dict[str, Raw]:
    """Return the manifests of the repository that users apply, by file, and one with entries in lists for each kind."""
    paths = [*REPOSITORY.glob("examples/*/*.yaml")]
    read = {str(path.relative_to(REPOSITORY)): YAML(typ="safe").load(path) for path in paths}
    return {name: each for name, each in read.items() if "finetune.dev" in each["apiVersion"]} | {
        "lists": LISTS,
        "pool": POOL,
    }


EXAMPLES = examples()


def test_the_examples_were_read():
    """Jobs, pools and policies; FineTunePlans are nobody's to write."""
    kinds = {crd["spec"]["names"]["kind"] for crd in crds()} - {PLAN_KIND}
    assert {each["kind"] for each in EXAMPLES.values()} == kinds
    assert len(EXAMPLES) > 12


def test_no_entry_of_a_list_has_a_default():
    """kubectl compares lists as a whole: an entry that the server fills in is never again the one of the file."""
    found: list[str] = []

    def look(schema: Raw, path: str, *, entry: bool = False) -> None:
        found.extend([path] if entry and "default" in schema else [])
        for name, field in schema.get("properties", {}).items():
            look(field, f"{path}.{name}", entry=entry)
        if "items" in schema:
            look(schema["items"], f"{path}[]", entry=True)

    for crd in crds():
        look(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"], crd["spec"]["names"]["kind"])

    assert found == []


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_third_apply_says_unchanged(api: Client, control_plane: ControlPlane, namespace: str, name: str):
    """Applied by the client, the second time already; applied by the server, nothing is written."""
    manifest = placed(EXAMPLES[name], namespace)
    path = stored_at(manifest)
    said = [control_plane.kubectl("apply", "-f", "-", given=manifest).stdout.split()[-1] for _ in range(3)]
    control_plane.apply(manifest)
    first = api.get(path)["metadata"]
    control_plane.apply(manifest)
    last = api.get(path)["metadata"]
    if manifest["kind"] == "GPUPool":
        api.delete(path)

    assert said == ["created", "unchanged", "unchanged"]
    assert (last["generation"], last["resourceVersion"]) == (1, first["resourceVersion"])


def placed(manifest: Raw, namespace: str) -> Raw:
    """Return a manifest in a namespace of the test's own."""
    if manifest["kind"] == "GPUPool":
        return manifest | {"metadata": manifest["metadata"] | {"name": f"{manifest['metadata']['name']}-{namespace}"}}
    return manifest | {"metadata": manifest["metadata"] | {"namespace": namespace}}


def stored_at(manifest: Raw) -> str:
    """Return the path of an object."""
    plural = {"FineTuneJob": "finetunejobs", "GPUPool": "gpupools", "FineTunePolicy": "finetunepolicies"}[
        manifest["kind"]
    ]
    meta = manifest["metadata"]
    within = f"/namespaces/{meta['namespace']}" if "namespace" in meta else ""
    return f"{FINETUNE}{within}/{plural}/{meta['name']}"
