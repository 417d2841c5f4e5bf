"""The operator dies, sleeps, is doubled, is blind for a while: the end is the same, and nothing is done twice."""

from urllib.request import urlopen

import pytest

from tests.cluster.client import GARBAGE_SECONDS, Client, Raw, eventually
from tests.cluster.conftest import StartOperator
from tests.cluster.faults import Call, FaultProxy
from tests.cluster.plays import Play, a_job, preempted, training_fails
from tests.cluster.standin import StandIn
from tests.cluster.test_controller_runs import attempts, jobs, made, phase, pods, reaches

pytestmark = pytest.mark.cluster

METRICS = {
    "finetune_api_requests_total",
    "finetune_attempts_ended_total",
    "finetune_build_info",
    "finetune_cost_usd_per_hour",
    "finetune_cost_usd_total",
    "finetune_failed_writes_total",
    "finetune_namespaces_skipped",
    "finetune_store_restored_total",
    "finetune_gpu_seconds_total",
    "finetune_gpus_running",
    "finetune_gpus_waiting",
    "finetune_job_reconcile_duration_seconds",
    "finetune_job_reconcile_errors_total",
    "finetune_job_reconcile_total",
    "finetune_job_start_latency_seconds",
    "finetune_jobs",
    "finetune_jobs_ended_total",
    "finetune_jobs_near_budget",
    "finetune_leader",
    "finetune_longest_wait_seconds",
    "finetune_policy_month_cost_usd",
    "finetune_watch_last_event_timestamp_seconds",
    "finetune_watch_missed_total",
    "finetune_workqueue_adds_total",
    "finetune_workqueue_depth",
    "finetune_workqueue_retries_total",
}


@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_around_every_write_it_ends_the_same(
    api: Client, standin: StandIn, namespace: str, proxy: FaultProxy, start_operator: StartOperator, moment: str
):
    """SIGKILL before, or right after, each write of a job with two attempts: same end, each Pod created once."""
    standin.scripts["torn"] = {"0": training_fails("TrainerError", "boom", checkpoint_step=10)}
    operator = start_operator(kubeconfig=proxy.operator_kubeconfig)
    kills: list[Call] = []
    lost: list[Call] = []

    def strike(number: int, when: str) -> bool:
        call = proxy.writes[number - 1]
        # Before a write: it is lost with the operator; after the restart it comes again and is let through.
        if when != moment or is_known(call):
            return True
        if call in lost:
            lost.remove(call)
            return True
        kills.append(call)
        lost[:] = [call] if moment == "before" else []
        operator.kill()
        return False

    def is_known(call: Call) -> bool:
        """A FineTunePlan whose name no status has yet: each restart creates it again, and is told that it is there."""
        is_there = "finetuneplans" in call[1] and (call, 201) in proxy.answers
        return is_there and (moment == "before" or call in kills)

    proxy.around_write = strike
    operator.start()
    api.create(jobs(namespace), a_job("torn"))

    def ended_or_restarted() -> bool:
        assert operator.process is not None
        if operator.process.poll() is not None:
            operator.start(wait=False)
        return phase(api, namespace, "torn") == "Succeeded"

    eventually(ended_or_restarted, "torn is Succeeded", 120)

    job = api.get(f"{jobs(namespace)}/torn")
    assert len(kills) >= 5
    assert attempts(job) == [(0, "TrainerError"), (1, "Succeeded")]
    assert made(standin, namespace) == {"torn-preflight-1": 1, "torn-0-0": 1, "torn-1-0": 1}


def test_a_restart_changes_nothing_for_a_running_job(
    api: Client, standin: StandIn, namespace: str, proxy: FaultProxy, start_operator: StartOperator
):
    """Two restarts and several comparisons with the API server while a job trains: not one write."""
    standin.scripts["calm"] = {"0": Play(hold=True)}
    operator = start_operator("--resync-seconds=0.5", kubeconfig=proxy.operator_kubeconfig)
    operator.start()
    api.create(jobs(namespace), a_job("calm"))
    reaches(api, namespace, "calm", "Training")
    running = ("True", "False")
    eventually(lambda: conditions(api, namespace, "calm") == running, "PodsReady, and nothing to reconcile")
    before = settled(proxy)
    operator.kill()
    operator.start()
    operator.terminate()
    operator.start()
    lists = len(listings(proxy))
    eventually(lambda: len(listings(proxy)) >= lists + 4, "four more comparisons")

    assert proxy.writes[len(before) :] == []
    assert api.get(f"{pods(namespace)}/calm-0-0")["status"]["phase"] == "Running"


def conditions(api: Client, namespace: str, name: str) -> tuple[str, ...]:
    """Return PodsReady and Reconciling."""
    found = {each["type"]: each["status"] for each in api.get(f"{jobs(namespace)}/{name}")["status"]["conditions"]}
    return tuple(found.get(kind, "") for kind in ("PodsReady", "Reconciling"))


def listings(proxy: FaultProxy) -> list[Call]:
    """Return the LISTs and watches of jobs."""
    return [call for call in proxy.calls if call[0] == "GET" and call[1].endswith("/finetunejobs")]


def settled(proxy: FaultProxy) -> list[Call]:
    """Wait until three comparisons in a row brought no write; return the writes until then."""
    state = {"writes": -1, "lists": 0}

    def quiet() -> bool:
        if len(proxy.writes) != state["writes"]:
            state.update(writes=len(proxy.writes), lists=len(listings(proxy)))
        return len(listings(proxy)) >= state["lists"] + 3

    eventually(quiet, "no more writes")
    return proxy.writes


def test_finished_jobs_cost_no_writes(
    api: Client, standin: StandIn, namespace: str, proxy: FaultProxy, start_operator: StartOperator
):
    """A cold start on what is finished, and every re-list after it, only reads."""
    operator = start_operator()
    operator.start()
    for number in range(5):
        api.create(jobs(namespace), a_job(f"done-{number}"))
    for number in range(5):
        reaches(api, namespace, f"done-{number}", "Succeeded")
    operator.terminate()
    cold = start_operator("--resync-seconds=0.5", kubeconfig=proxy.operator_kubeconfig)
    cold.start()
    eventually(lambda: len(listings(proxy)) >= 6, "re-lists")

    assert proxy.writes == []


def test_deleting_a_job_while_the_operator_is_down_leaves_nothing(
    api: Client, standin: StandIn, namespace: str, start_operator: StartOperator
):
    """Owner references do the cleaning; there is no finalizer to wait for."""
    standin.scripts["doomed"] = {"0": Play(hold=True)}
    operator = start_operator()
    operator.start()
    api.create(jobs(namespace), a_job("doomed"))
    reaches(api, namespace, "doomed", "Training")
    operator.kill()
    api.delete(f"{jobs(namespace)}/doomed")

    eventually(lambda: api.items(pods(namespace)) == [], "all Pods are gone", GARBAGE_SECONDS)

    assert api.find(f"{jobs(namespace)}/doomed") is None


def test_a_change_that_the_watch_lost_is_not_overwritten(
    api: Client, standin: StandIn, namespace: str, proxy: FaultProxy, start_operator: StartOperator
):
    """The status is fenced by resourceVersion: a write that rests on an old job is refused, then decided anew."""
    standin.scripts["blind"] = {"0": Play(hold=True), "sigterm": preempted(7)}
    blind = {"now": False}
    proxy.drop_event = lambda event: blind["now"] and event["object"].get("kind") == "FineTuneJob"
    operator = start_operator(kubeconfig=proxy.operator_kubeconfig)
    operator.start()
    api.create(jobs(namespace), a_job("blind"))
    reaches(api, namespace, "blind", "Training")
    blind["now"] = True
    api.patch(f"{jobs(namespace)}/blind", {"spec": {"suspend": True}})
    api.delete(f"{pods(namespace)}/blind-0-0")

    job = reaches(api, namespace, "blind", "Suspended")

    refused = [call for call, status in proxy.answers if status == 409 and call[1].endswith("/blind/status")]
    assert len(refused) >= 1
    assert len(attempts(job)) == 1


def test_a_deletion_that_the_watch_lost_is_found_by_comparison(
    api: Client, standin: StandIn, namespace: str, proxy: FaultProxy, start_operator: StartOperator
):
    """kopf tells nothing of what went while a watch was down; comparing does, and the next attempt starts."""
    standin.scripts["ghost"] = {"0": Play(hold=True)}
    proxy.drop_event = lambda event: (
        event["object"].get("kind") == "Pod" and "deletionTimestamp" in event["object"]["metadata"]
    )
    operator = start_operator("--resync-seconds=2", kubeconfig=proxy.operator_kubeconfig)
    operator.start()
    api.create(jobs(namespace), a_job("ghost"))
    reaches(api, namespace, "ghost", "Training")
    api.delete(f"{pods(namespace)}/ghost-0-0", gracePeriodSeconds=0)

    job = reaches(api, namespace, "ghost", "Succeeded")

    assert [number for number, _ in attempts(job)] == [0, 1]
    assert "ghosts=1" in operator.text


def is_leaving(raw: Raw) -> bool:
    """Tell whether an object is being deleted."""
    return "deletionTimestamp" in raw["metadata"]


def test_a_job_deleted_in_a_gap_is_forgotten(
    api: Client, standin: StandIn, namespace: str, proxy: FaultProxy, start_operator: StartOperator
):
    """The watches are cut, the job goes meanwhile, the watches begin anew: the operator compares at once."""
    standin.scripts["gap"] = {"0": Play(hold=True)}
    operator = start_operator(kubeconfig=proxy.operator_kubeconfig)
    operator.start()
    proxy.wait_for_watches()
    api.create(jobs(namespace), a_job("gap"))
    api.create(jobs(namespace), a_job("stays"))
    reaches(api, namespace, "gap", "Training")
    reaches(api, namespace, "stays", "Succeeded")
    gone = {"kind": "Status", "code": 410, "message": "too old resource version"}
    proxy.drop_event = lambda event: event["type"] == "DELETED"
    api.delete(f"{jobs(namespace)}/gap")
    selector = "finetune.dev/job-name=gap"
    eventually(lambda: api.items(pods(namespace), labelSelector=selector) == [], "its Pods are gone", GARBAGE_SECONDS)
    proxy.drop_event = lambda _: False
    proxy.send_error(gone)

    operator.said("ghosts=")


def test_sigterm_ends_it_in_the_middle_of_work(
    api: Client, standin: StandIn, namespace: str, start_operator: StartOperator
):
    """In order, within a Pod's grace period, although jobs are being worked on; the next one goes on."""
    operator = start_operator()
    operator.start()
    for number in range(5):
        api.create(jobs(namespace), a_job(f"busy-{number}"))
    reaches(api, namespace, "busy-0", "Succeeded")
    assert operator.terminate() == 0

    operator.start()
    for number in range(5):
        reaches(api, namespace, f"busy-{number}", "Succeeded")
    assert set(made(standin, namespace).values()) == {1}


def test_metrics_and_health_are_served(
    api: Client, standin: StandIn, namespace: str, start_operator: StartOperator, free_port: int
):
    """Prometheus' names are API; the probes answer."""
    start_operator(f"--port={free_port}").start()
    api.create(jobs(namespace), a_job("counted"))
    reaches(api, namespace, "counted", "Succeeded")

    def ask(path: str) -> str:
        with urlopen(f"http://127.0.0.1:{free_port}{path}", timeout=5) as answer:
            return answer.read().decode()

    assert (ask("/healthz"), ask("/readyz")) == ("ok\n", "ok\n")
    text = ask("/metrics")
    names = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    assert names == METRICS
    assert 'finetune_api_requests_total{code="201",resource="pods",verb="POST"} 2.0' in text
