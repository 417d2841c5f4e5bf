"""One operator, one job at a time: from `kubectl apply` to the end, on the real API server with a stand-in trainer."""

import pytest
from finetune_contract import Outcome

from tests.cluster.client import FINETUNE, GARBAGE_SECONDS, Client, Raw, eventually
from tests.cluster.conftest import StartOperator
from tests.cluster.plays import POOL, Play, a_job, a_pool, preempted, preflight_fails, training_fails
from tests.cluster.standin import StandIn

pytestmark = pytest.mark.cluster


def jobs(namespace: str) -> str:
    return f"{FINETUNE}/namespaces/{namespace}/finetunejobs"


def pods(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/pods"


def phase(api: Client, namespace: str, name: str) -> str:
    return api.get(f"{jobs(namespace)}/{name}").get("status", {}).get("phase", "")


def reaches(api: Client, namespace: str, name: str, wanted: str) -> Raw:
    """Wait for a phase; return the job, with its plan."""

    def look() -> Raw | None:
        job = api.get(f"{jobs(namespace)}/{name}")
        return api.whole(f"{jobs(namespace)}/{name}") if job.get("status", {}).get("phase") == wanted else None

    try:
        return eventually(look, f"{name} is {wanted}", GARBAGE_SECONDS + 30)
    except AssertionError as error:
        raise AssertionError(f"{error}; status is {api.get(f'{jobs(namespace)}/{name}').get('status')}") from None


def condition(job: Raw, kind: str) -> tuple[str, str]:
    """Return status and reason of a condition."""
    found = next(each for each in job["status"]["conditions"] if each["type"] == kind)
    return found["status"], found["reason"]


def attempts(job: Raw) -> list[tuple[int, str | None]]:
    """Return number and outcome of the attempts."""
    return [(each["number"], each.get("outcome")) for each in job["status"]["attempts"]]


def made(standin: StandIn, namespace: str) -> dict[str, int]:
    """Return the Pods that were ever created in a namespace, and how often."""
    return {key.partition("/")[2]: times for key, times in standin.added.items() if key.startswith(f"{namespace}/")}


def test_a_job_runs_to_its_adapter(api: Client, standin: StandIn, namespace: str, start_operator: StartOperator):
    """One preflight Pod, one trainer Pod, one adapter; the figures of the outcome arrive in the status."""
    start_operator().start()
    api.create(jobs(namespace), a_job("happy"))

    job = reaches(api, namespace, "happy", "Succeeded")

    status = job["status"]
    assert attempts(job) == [(0, "Succeeded")]
    assert condition(job, "Succeeded") == ("True", "Published")
    assert status["adapterURI"] == "s3://bucket/out/adapter"
    assert status["evaluation"]["tunedLoss"].startswith("1.5")
    assert status["runDigest"] == "sha256:" + "1" * 64
    assert made(standin, namespace) == {"happy-preflight-1": 1, "happy-0-0": 1}


def test_a_job_that_did_not_fit_runs_once_the_pool_is_there(
    api: Client, standin: StandIn, namespace: str, start_operator: StartOperator
):
    """The platform team adds a pool; nobody touches the job."""
    start_operator().start()
    api.create(jobs(namespace), a_job("early", resources={"pools": ["late"]}))
    job = reaches(api, namespace, "early", "Failed")
    assert condition(job, "Planned") == ("False", "DoesNotFit")

    api.create(f"{FINETUNE}/gpupools", a_pool() | {"metadata": {"name": "late"}})
    try:
        job = reaches(api, namespace, "early", "Succeeded")
    finally:
        api.delete(f"{FINETUNE}/gpupools/late")

    assert (job["status"]["plan"]["pool"]["name"], attempts(job)) == ("late", [(0, "Succeeded")])
    assert made(standin, namespace) == {"early-preflight-1": 1, "early-0-0": 1}


def test_a_failed_attempt_is_followed_by_the_next(
    api: Client, standin: StandIn, namespace: str, start_operator: StartOperator
):
    """A crash costs an attempt, not the job."""
    standin.scripts["flaky"] = {"0": training_fails("TrainerError", "device-side assert", checkpoint_step=10)}
    start_operator().start()
    api.create(jobs(namespace), a_job("flaky"))

    job = reaches(api, namespace, "flaky", "Succeeded")

    assert attempts(job) == [(0, "TrainerError"), (1, "Succeeded")]
    assert made(standin, namespace) == {"flaky-preflight-1": 1, "flaky-0-0": 1, "flaky-1-0": 1}


def test_a_gang_is_gated_until_it_is_complete(
    api: Client, standin: StandIn, namespace: str, start_operator: StartOperator
):
    """Two replicas get a headless Service and lose their gates together."""
    start_operator().start()
    api.create(
        jobs(namespace), a_job("gang", resources={"pools": [POOL], "gpus": 16}, training={"globalBatchSize": 16})
    )

    job = reaches(api, namespace, "gang", "Succeeded")

    assert (job["status"]["plan"]["replicas"], attempts(job)) == (2, [(0, "Succeeded")])
    assert made(standin, namespace) == {"gang-preflight-1": 1, "gang-0-0": 1, "gang-0-1": 1}
    trainers = api.items(pods(namespace), labelSelector="finetune.dev/role=trainer")
    assert [pod["spec"].get("schedulingGates", []) for pod in trainers] == [[], []]


def test_a_suspended_job_gives_its_gpus_back_and_goes_on(
    api: Client, standin: StandIn, namespace: str, start_operator: StartOperator
):
    """suspend: the Pods go, the attempt is kept; resume: the next attempt starts."""
    standin.scripts["pause"] = {"0": Play(hold=True), "sigterm": preempted(7)}
    start_operator().start()
    api.create(jobs(namespace), a_job("pause"))
    reaches(api, namespace, "pause", "Training")

    api.patch(f"{jobs(namespace)}/pause", {"spec": {"suspend": True}})
    job = reaches(api, namespace, "pause", "Suspended")
    running = [each["metadata"]["name"] for each in api.items(pods(namespace)) if each["status"]["phase"] == "Running"]
    assert (attempts(job), running) == ([(0, "Suspended")], [])

    api.patch(f"{jobs(namespace)}/pause", {"spec": {"suspend": False}})
    job = reaches(api, namespace, "pause", "Succeeded")
    assert attempts(job) == [(0, "Suspended"), (1, "Succeeded")]


def test_a_mistake_found_by_preflight_is_mended_in_place(
    api: Client, standin: StandIn, namespace: str, start_operator: StartOperator
):
    """The reason names what to change; an edit is examined anew and runs."""
    standin.scripts["typo"] = {"preflight": preflight_fails("DatasetInvalid", "no column question; there is prompt")}
    start_operator().start()
    api.create(jobs(namespace), a_job("typo"))

    job = reaches(api, namespace, "typo", "Failed")
    assert condition(job, "Succeeded") == ("False", "DatasetInvalid")
    assert "attempts" not in job["status"]

    del standin.scripts["typo"]
    api.patch(f"{jobs(namespace)}/typo", {"spec": {"datasets": [{"source": "s3://bucket/mended.jsonl"}]}})
    reaches(api, namespace, "typo", "Succeeded")
    assert made(standin, namespace) == {"typo-preflight-1": 1, "typo-preflight-2": 1, "typo-0-0": 1}


def test_a_job_among_the_checkpoints_of_another_is_refused(
    api: Client, standin: StandIn, namespace: str, start_operator: StartOperator
):
    """While the other one trains; once that has ended, the same destination is free, also for a job of another name."""
    shared = {"destination": f"s3://bucket/{namespace}"}
    standin.scripts["theirs"] = {"0": Play(hold=True)}
    start_operator().start()
    api.create(jobs(namespace), a_job("theirs", checkpoint=shared))
    reaches(api, namespace, "theirs", "Training")
    api.create(jobs(namespace), a_job("mine", checkpoint=shared))

    job = reaches(api, namespace, "mine", "Failed")
    assert condition(job, "Succeeded") == ("False", "OutputOccupied")
    assert made(standin, namespace) == {"theirs-preflight-1": 1, "theirs-0-0": 1}

    api.delete(f"{pods(namespace)}/theirs-0-0")
    reaches(api, namespace, "theirs", "Succeeded")
    api.create(jobs(namespace), a_job("next", checkpoint=shared))
    reaches(api, namespace, "next", "Succeeded")


def test_a_strangers_pod_is_not_touched(api: Client, standin: StandIn, namespace: str, start_operator: StartOperator):
    """A Pod that happens to have the name stays as it is; the job says so."""
    stranger = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "clash-0-0"}}
    gates = [{"name": "example.org/never"}]
    stranger |= {"spec": {"containers": [{"name": "web", "image": "nginx"}], "schedulingGates": gates}}
    before = api.create(pods(namespace), stranger)
    start_operator().start()
    api.create(jobs(namespace), a_job("clash"))

    job = reaches(api, namespace, "clash", "Failed")

    assert condition(job, "Succeeded") == ("False", "NameConflict")
    after = api.get(f"{pods(namespace)}/clash-0-0")
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


def test_a_job_of_the_same_name_waits_for_the_former_ones_pods(
    api: Client, standin: StandIn, namespace: str, start_operator: StartOperator
):
    """Delete and apply again at once: the new job waits, it does not fail and does not take the old Pod for its own."""
    standin.scripts["again"] = {"0": Play(hold=True)}
    start_operator().start()
    first = api.create(jobs(namespace), a_job("again"))["metadata"]["uid"]
    reaches(api, namespace, "again", "Training")
    api.delete(f"{jobs(namespace)}/again", propagationPolicy="Background")
    del standin.scripts["again"]
    second = api.create(jobs(namespace), a_job("again"))["metadata"]["uid"]

    job = reaches(api, namespace, "again", "Succeeded")

    assert (first != second, attempts(job)) == (True, [(0, "Succeeded")])
    owner = api.get(f"{pods(namespace)}/again-0-0")["metadata"]["ownerReferences"][0]["uid"]
    assert (owner, made(standin, namespace)["again-0-0"]) == (second, 2)


def test_what_happens_is_said_in_events(api: Client, standin: StandIn, namespace: str, start_operator: StartOperator):
    """`kubectl describe` tells the story, and a reason that the trainer gave on SIGTERM is the job's."""
    standin.scripts["story"] = {"0": Play(hold=True)}
    start_operator().start()
    api.create(jobs(namespace), a_job("story"))
    reaches(api, namespace, "story", "Training")

    events = f"/apis/events.k8s.io/v1/namespaces/{namespace}/events"
    told = api.items(events, fieldSelector="regarding.kind=FineTuneJob")
    assert {each["reportingController"] for each in told} == {"finetune.dev/operator"}
    assert all(each["note"] and each["regarding"]["name"] == "story" for each in told)

    outcome = Outcome(outcome="Failed", reason="LossDiverged", message="loss is NaN at step 3", step=3)
    standin.scripts["story"]["sigterm"] = Play(exit_code=87, outcome=outcome)
    api.delete(f"{pods(namespace)}/story-0-0")
    job = reaches(api, namespace, "story", "Failed")
    assert condition(job, "Succeeded") == ("False", "LossDiverged")
