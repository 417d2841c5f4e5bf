"""What Argo CD's customization is made of beside its scripts: jobs in the states that it is tested on, as decisions leave them,
and the ConfigMap for those who do not wait until Argo CD ships it.
"""

from pathlib import Path
from typing import Any, Final

import yaml

from tests.unit.lifecycle.lifecycle_builders import a_failure, a_preemption, published
from tests.unit.lifecycle.world import World, a_planned_world, a_training_world, a_world

ARGOCD = Path(__file__).parents[2] / "gitops/argocd"
CUSTOMIZATION = ARGOCD / "finetune.dev/FineTuneJob"

HEADER = "# The scripts of finetune.dev/FineTuneJob as settings of Argo CD; `python -m tests.golden argo` writes this file.\n"
BUDGET = {"runPolicy": {"budget": {"maxCostUSD": "20.00"}}}
GATE = {"evaluation": {"gate": {"minRelativeLossImprovement": "0.5"}}}


def over_budget() -> World:
    """Return a world in which a job has spent its budget, saved and let its GPU go."""
    world = a_training_world(**BUDGET).later(20_100).settle()
    return world.end("bot-0-0", 85, a_preemption(80)).settle().reap().settle()


STATES: Final[dict[str, World]] = {
    "unseen": a_world(),
    "preflight": a_world().settle(),
    "training": a_training_world(**BUDGET),
    "changed": a_training_world().edit(runPolicy={"maxRetries": 5}),
    "preempted": a_training_world().later(60).end("bot-0-0", 85, a_preemption(30)).settle(),
    "suspended": a_world(suspend=True).settle(),
    "planned": a_planned_world(planOnly=True),
    "budget-spent": over_budget(),
    "succeeded": a_training_world().end("bot-0-0", 0, published()).settle(),
    "gate-failed": a_training_world(**GATE).end("bot-0-0", 0, published()).settle(),
    "failed": a_training_world().end("bot-0-0", 87, a_failure("DatasetChanged", "the rows have changed")).settle(),
    "refused": a_world()
    .settle()
    .run("bot-preflight-1")
    .end("bot-preflight-1", 86, a_failure("DatasetInvalid"))
    .settle(),
}


def manifest(world: World) -> dict[str, Any]:
    """Return what Argo CD's scripts read of a job: all but the figures of its status."""
    job = world.job
    status = job.status.model_dump(by_alias=True, exclude_none=True, mode="json")
    seen = ("phase", "observedGeneration", "conditions") if job.status.conditions else ("observedGeneration",)
    return {
        "apiVersion": "finetune.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": "bot", "namespace": "team-a", "generation": job.metadata.generation},
        "spec": job.spec.model_dump(by_alias=True, exclude_defaults=True, mode="json"),
        "status": {key: status[key] for key in seen},
    }


def settings() -> dict[str, Any]:
    """Return the part of argocd-cm that holds the scripts."""
    actions = CUSTOMIZATION / "actions"
    definitions = [
        {"name": script.parent.name, "action.lua": script.read_text()}
        for script in sorted(actions.glob("*/action.lua"))
    ]
    offered = {"discovery.lua": (actions / "discovery.lua").read_text(), "definitions": definitions}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "argocd-cm", "namespace": "argocd"},
        "data": {
            "resource.customizations.health.finetune.dev_FineTuneJob": (CUSTOMIZATION / "health.lua").read_text(),
            "resource.customizations.actions.finetune.dev_FineTuneJob": text(offered),
            "resource.customizations.health.argoproj.io_Application": (ARGOCD / "application-health.lua").read_text(),
        },
    }


class Lines(yaml.SafeDumper):
    """Writes scripts as blocks."""


Lines.add_representer(
    str,
    lambda dumper, value: dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None),
)


def text(value: dict[str, Any]) -> str:
    """Return YAML that a person reads."""
    return yaml.dump(value, Dumper=Lines, sort_keys=False, width=120)


def files() -> dict[Path, str]:
    """Return the golden files with their texts."""
    states = {CUSTOMIZATION / "testdata" / f"{name}.yaml": text(manifest(world)) for name, world in STATES.items()}
    return states | {ARGOCD / "argocd-cm.yaml": HEADER + text(settings())}
