"""Every kind of child that we create, as JSON: what the API server is sent."""

import json
from pathlib import Path
from typing import Any

from finetune_operator.api.pool_pod import PoolPodSettings
from finetune_operator.manifests.children import children
from finetune_operator.manifests.names import RUN_ANNOTATION
from finetune_operator.manifests.pod_groups import pod_group
from finetune_operator.manifests.preflight import preflight_pod

from tests.unit.manifests.manifest_builders import RICH, a_pinned_job

GOLDEN = Path(__file__).parent / "manifests"


def rendered() -> dict[str, list[dict[str, Any]]]:
    """Return the children of a preflight, of a plain run, and of runs on two nodes: with everything, and under other schedulers."""
    plain, rich = a_pinned_job(), a_pinned_job(replicas=2, attempts=2, plan={"gpus_per_replica": 8}, **RICH)
    return {
        "preflight": [preflight_pod(rich, 1, image="finetune-preflight:dev")],
        "one-gpu": list(children(plain, plain.status, 0)),
        "two-nodes": list(children(rich, rich.status, 1)),
        "volcano": gang("volcano"),
        "scheduler-plugins": gang("scheduler-plugins"),
    }


def gang(scheduler: str) -> list[dict[str, Any]]:
    """Return the PodGroup and the first Pod of a run on two nodes under a scheduler that reads PodGroups."""
    job = a_pinned_job(replicas=2, plan={"gpus_per_replica": 8}, priorityClassName="research")
    assert job.status.plan is not None
    queue = {"key": "scheduling.volcano.sh/queue-name", "value": "team-a"}
    wanted = {
        "podGroup": scheduler,
        "schedulerName": scheduler,
        "annotations": [queue] if scheduler == "volcano" else [],
    }
    pool = job.status.plan.pool.model_copy(update={"pod": PoolPodSettings.model_validate(wanted)})
    status = job.status.model_copy(update={"plan": job.status.plan.model_copy(update={"pool": pool})})
    first = children(job, status, 0)[1]
    group = pod_group(job, status, 0, first, "0" * 8 + "-0000-4000-8000-000000000000")
    assert group is not None
    return [group, first]


def golden_text(manifests: list[dict[str, Any]]) -> str:
    """Return the text of a golden file; run.json is unfolded so that a difference in it can be read."""
    return json.dumps([_unfolded(manifest) for manifest in manifests], indent=2) + "\n"


def _unfolded(manifest: dict[str, Any]) -> dict[str, Any]:
    annotations = manifest["metadata"].get("annotations")
    if annotations is None:
        return manifest
    shown = annotations | {RUN_ANNOTATION: json.loads(annotations[RUN_ANNOTATION])}
    return manifest | {"metadata": manifest["metadata"] | {"annotations": shown}}


def files() -> dict[Path, str]:
    """Return the golden files with their texts."""
    return {GOLDEN / f"{name}.json": golden_text(manifests) for name, manifests in rendered().items()}
