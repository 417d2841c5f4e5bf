"""Small pure parts of the shell: refusals, pool usage, leaving objects, log lines."""

import json
import logging
from datetime import UTC, datetime
from typing import Any

import pytest
from finetune_operator.api.pools import GPUPool
from finetune_operator.api.status import FineTuneJobStatus
from finetune_operator.controller.api import Answer, failure
from finetune_operator.controller.bodies import delete_options
from finetune_operator.controller.logs import JsonLines, TextLines
from finetune_operator.controller.pools import gpus_held, pool_status
from finetune_operator.controller.reconcile import Tally, soonest, waits_for_pods
from finetune_operator.controller.refusals import refusal_of
from finetune_operator.controller.stored import leaves_soon
from finetune_operator.errors import (
    ClusterUnavailable,
    Conflict,
    FinetuneError,
    Forbidden,
    NameConflict,
    ServerFailed,
    Unauthorized,
)
from finetune_operator.lifecycle.observation import Decision

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Forbidden('pods "a-0-0" is forbidden: exceeded quota: gpu, requested: ...'), "QuotaExceeded"),
        (Forbidden("failed quota: cpu: must specify requests.cpu"), "QuotaExceeded"),
        (Forbidden('violates PodSecurity "restricted:latest"'), "PodRefused"),
        (NameConflict("Pod a-0-0 exists"), "NameConflict"),
    ],
)
def test_a_refused_create_is_told_apart_by_who_must_act(error: Forbidden | NameConflict, reason: str):
    """Quota passes by itself, a rule does not."""
    assert (refusal_of(error, NOW).reason, refusal_of(error, NOW).message) == (reason, str(error))


@pytest.mark.parametrize(
    ("words", "field"),
    [
        ('error looking up service account team-a/nix: serviceaccount "nix" not found', "spec.serviceAccountName"),
        ('pods "a-0-0" is forbidden: no PriorityClass with name nix was found', "spec.priorityClassName"),
    ],
)
def test_what_a_refused_pod_names_in_vain_is_traced_to_its_field(words: str, field: str):
    """The API server knows Pods only: it cannot say where the user wrote the name."""
    assert (
        refusal_of(Forbidden(words), NOW).message
        == f"{words}: create it, or delete the job and apply it with another {field}"
    )


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, Unauthorized),
        (403, Forbidden),
        (404, Conflict),
        (409, Conflict),
        (410, Conflict),
        (422, Forbidden),
        (429, ClusterUnavailable),
        (500, ServerFailed),
        (503, ServerFailed),
    ],
)
def test_an_answer_becomes_the_error_that_fits(status: int, kind: type[FinetuneError]):
    """With the server's own sentence."""
    error = failure(Answer(status=status, content=b'{"message": "because"}'))

    assert (type(error), str(error)) == (kind, "because")


def test_an_answer_that_is_no_json_is_kept_as_text():
    """A proxy in between may say anything."""
    assert Answer(status=502, content=b"<html>bad gateway</html>").message == "<html>bad gateway</html>"


def test_deletes_are_fenced_by_uid():
    """A new object under the old name is not touched."""
    assert delete_options("u", 0) == {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "propagationPolicy": "Background",
        "preconditions": {"uid": "u"},
        "gracePeriodSeconds": 0,
    }


def owned_by(kind: str, name: str, **meta: Any) -> dict[str, Any]:
    owner = {"kind": kind, "name": name, "uid": "old", "controller": True}
    return {"metadata": {"name": "j-0-0", "ownerReferences": [owner], **meta}}


def test_what_a_former_job_left_is_waited_for_and_a_strangers_is_not():
    """Deleting and re-creating a job at once is no conflict of names."""
    assert leaves_soon(owned_by("FineTuneJob", "j"), "j") is True
    assert leaves_soon(owned_by("ReplicaSet", "web", deletionTimestamp="2026-01-02T03:04:05Z"), "j") is True
    assert leaves_soon(owned_by("FineTuneJob", "other"), "j") is False
    assert leaves_soon(owned_by("ReplicaSet", "web"), "j") is False
    assert leaves_soon({"metadata": {"name": "j-0-0"}}, "j") is False


def a_pool(**spec: Any) -> GPUPool:
    base = {
        "gpuType": "NVIDIA-A100-SXM4-80GB",
        "gpusPerNode": 8,
        "maxNodes": 2,
        "node": {"cpus": 1, "memoryGiB": 1, "ephemeralGiB": 1},
        "nodeSelector": [{"key": "gpu", "value": "a100"}],
        "pricePerGPUHourUSD": "2.00",
    }
    return GPUPool.model_validate({"metadata": {"name": "a100", "uid": "p", "generation": 3}, "spec": base | spec})


def a_node(labels: dict[str, str], gpus: str) -> dict[str, Any]:
    return {"metadata": {"labels": labels}, "status": {"allocatable": {"nvidia.com/gpu": gpus}}}


def test_a_pool_counts_the_nodes_with_its_labels():
    """GPUs are those that the nodes can give out, not those on paper."""
    nodes = (a_node({"gpu": "a100", "zone": "b"}, "1k"), a_node({"gpu": "a100"}, "7"), a_node({"gpu": "h100"}, "8"))

    status = pool_status(a_pool(), nodes, 5, NOW)

    assert (status.observed_generation, status.nodes, status.gpus, status.gpus_in_use_by_jobs) == (3, 2, 1007, 5)


@pytest.mark.parametrize(
    ("spec", "status", "message"),
    [
        ({}, "True", ""),
        ({"gpuType": "HOMEMADE", "memoryGiB": "24"}, "True", ""),
        (
            {"gpuType": "HOMEMADE"},
            "False",
            "gpuType HOMEMADE is not in the catalogue (`finetune gpus`): set memoryGiB in the pool",
        ),
    ],
)
def test_a_pool_is_accepted_where_the_memory_of_its_gpus_is_known(spec: dict[str, str], status: str, message: str):
    """From the catalogue or from the pool itself; else the condition says what to set."""
    (condition,) = pool_status(a_pool(**spec), (), 0, NOW).conditions

    assert (condition.type, condition.status, condition.message) == ("Accepted", status, message)


def test_without_the_right_to_read_nodes_their_counts_stay():
    """An operator of one namespace may not see nodes; usage is still told."""
    status = pool_status(a_pool(), None, 5, NOW)

    assert (status.nodes, status.gpus, status.gpus_in_use_by_jobs) == (0, 0, 5)


@pytest.mark.parametrize(
    ("node_name", "phase", "gpus"),
    [("", "Pending", 0), ("n", "Pending", 4), ("n", "Running", 4), ("n", "Succeeded", 0), ("n", "Failed", 0)],
)
def test_a_pod_holds_gpus_from_being_scheduled_until_it_ends(node_name: str, phase: str, gpus: int):
    """A Pod that waits for a node costs nothing."""
    containers = [{"name": "trainer", "resources": {"limits": {"nvidia.com/gpu": "4"}}}]
    pod = {"spec": {"nodeName": node_name, "containers": containers}, "status": {"phase": phase}}

    assert gpus_held(pod, "nvidia.com/gpu") == gpus


def test_the_soonest_of_the_delays_that_are_set():
    """None means: only on events."""
    assert [soonest(None, None), soonest(5, None), soonest(5, 2.5)] == [None, 5, 2.5]


A_POD: dict[str, Any] = {"kind": "Pod", "spec": {}}


@pytest.mark.parametrize(
    ("made", "tally", "waits"),
    [
        ([A_POD], Tally(created=1), True),
        ([A_POD], Tally(created=1, deleted=1), False),
        ([A_POD, A_POD], Tally(created=1, refused=1), False),
        ([{"kind": "Pod", "spec": {"schedulingGates": [{"name": "gang"}]}}], Tally(created=1), False),
        ([{"kind": "Workload", "spec": {}}], Tally(created=1), False),
        ([], Tally(), False),
    ],
)
def test_only_pods_that_may_start_by_themselves_are_waited_for(made: list[dict[str, Any]], tally: Tally, waits: bool):
    """A gang's gates, and what comes after a Workload, are the next pass's to see to."""
    assert waits_for_pods(Decision(status=FineTuneJobStatus(), create=tuple(made)), tally) is waits


def test_log_lines_bind_fields():
    """One fact per line, readable by people and by machines."""
    record = logging.makeLogRecord(
        {"msg": "pass", "levelname": "INFO", "name": "x", "created": 0.0, "job": "a/b", "why": "no GPU"}
    )

    assert TextLines().format(record) == "1970-01-01T00:00:00.000Z INFO    pass job=a/b why='no GPU'"
    assert json.loads(JsonLines().format(record)) == {
        "time": "1970-01-01T00:00:00.000Z",
        "level": "info",
        "message": "pass",
        "logger": "x",
        "job": "a/b",
        "why": "no GPU",
    }
