"""Kills, suspension and deletion in the middle of a run: nothing is lost, and the result is the one of a quiet run."""

import pytest
from finetune_operator.local.processes import identify

from tests.cluster.client import GARBAGE_SECONDS, eventually
from tests.e2e.product import Product

pytestmark = pytest.mark.e2e

LONG = {
    "training": {"maxSteps": 240, "globalBatchSize": 4, "sequenceLength": 64, "learningRate": "5e-3"},
    "checkpoint": {"intervalSeconds": 1},
}
"""Long enough to be hit in the middle, with a checkpoint every second."""


@pytest.fixture(scope="module")
def quiet_loss() -> dict[str, str]:
    """The held-out loss of a run that nothing disturbed, filled in by the first test."""
    return {}


def undisturbed(product: Product, known: dict[str, str]) -> str:
    if not known:
        product.submit("quiet", **LONG)
        known["loss"] = product.finish("quiet")["evaluation"]["tunedLoss"]
    return known["loss"]


def test_a_killed_trainer_goes_on_from_its_checkpoint(product: Product, quiet_loss: dict[str, str]):
    """SIGKILL ends the attempt; the next one starts from a checkpoint and ends with the same loss as a quiet run."""
    expected = undisturbed(product, quiet_loss)
    product.submit("killed", **LONG)
    product.until("killed", lambda s: s.get("checkpoint", {}).get("step", 0) > 0, "a checkpoint")
    product.kill_trainer("killed-0-0")
    status = product.finish("killed")
    first, second = status["attempts"]

    assert (first["outcome"], second["outcome"]) == ("Killed", "Succeeded")
    assert second["firstStep"] > 0
    assert status["evaluation"]["tunedLoss"] == expected


def test_a_killed_operator_changes_nothing_for_a_running_job(product: Product):
    """The Pod that ran before the operator died is the Pod that succeeds."""
    product.submit("orphan", **LONG)
    product.reach("orphan", 1)
    (before,) = product.pods("orphan")
    product.operator.kill()
    product.operator.start()
    status = product.finish("orphan")
    (after,) = product.pods("orphan")

    assert before["metadata"]["uid"] == after["metadata"]["uid"]
    assert [attempt["outcome"] for attempt in status["attempts"]] == ["Succeeded"]


def test_operator_and_trainer_killed_together(product: Product, quiet_loss: dict[str, str]):
    """The operator finds a dead attempt when it comes back, and starts the next one."""
    expected = undisturbed(product, quiet_loss)
    product.submit("both", **LONG)
    product.until("both", lambda s: s.get("checkpoint", {}).get("step", 0) > 0, "a checkpoint")
    product.operator.kill()
    product.kill_trainer("both-0-0")
    product.operator.start()
    status = product.finish("both")

    assert [attempt["outcome"] for attempt in status["attempts"]] == ["Killed", "Succeeded"]
    assert status["evaluation"]["tunedLoss"] == expected


def test_suspend_frees_the_gpu_and_resume_ends_with_the_same_loss(product: Product, quiet_loss: dict[str, str]):
    """Suspend saves a checkpoint and removes the Pods; resume goes on from that very step."""
    expected = undisturbed(product, quiet_loss)
    product.submit("paused", **LONG)
    product.reach("paused", 5)
    product.change("paused", {"suspend": True})
    suspended = product.until("paused", lambda s: s.get("phase") == "Suspended", "Suspended")
    eventually(lambda: not product.pods("paused"), "its Pods are gone")
    product.change("paused", {"suspend": False})
    status = product.finish("paused")
    first, second = status["attempts"]

    assert product.condition(suspended, "Suspended")[0] == "True"
    assert first["outcome"] == "Suspended"
    assert second["firstStep"] == first["lastStep"] == first["checkpointStep"] > 0
    assert status["evaluation"]["tunedLoss"] == expected


@pytest.mark.parametrize("operator_runs", [True, False], ids=["operator up", "operator down"])
def test_deleting_a_running_job_deletes_everything(product: Product, operator_runs: bool):
    """No finalizer: the API server's garbage collector takes the Pods, and the process node their processes."""
    name = f"doomed-{str(operator_runs).lower()}"
    product.submit(name, **LONG)
    product.reach(name, 1)
    pid = product.node.container_pid(product.namespace, f"{name}-0-0")
    if not operator_runs:
        product.operator.kill()
    product.delete(name)
    eventually(
        lambda: not product.pods(name) and not product.pods(name, "preflight"), "its Pods are gone", GARBAGE_SECONDS
    )

    assert product.cluster.kubectl("get", "ftj", name, "-n", product.namespace, check=False).returncode == 1
    eventually(lambda: identify(pid) is None, "the trainer's process is gone")
