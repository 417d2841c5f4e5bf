"""Reading logs: which line counts, how often, and that nobody waits for a kubelet."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from aiohttp import web
from finetune_contract import Progress, progress_line
from finetune_operator.api.status import FineTuneJob
from finetune_operator.controller.api import Api, resource_of
from finetune_operator.controller.progress import ProgressReader, log_query, newest_progress, reading_interval
from finetune_operator.lifecycle.observation import SeenPod

from tests.unit.controller.scripted import served, until
from tests.unit.smallest_spec import SMALLEST_SPEC

STEP_10 = Progress(phase="training", step=10, total_steps=100, loss=2.5)
STEP_20 = Progress(phase="training", step=20, total_steps=100, loss=2.0)


def test_the_newest_progress_line_counts_whatever_stands_around_it():
    """Ordinary output, tracebacks and half a line at the cut are ignored."""
    lines = [progress_line(STEP_10)[5:], progress_line(STEP_10), "loading shards", progress_line(STEP_20), "{}", ""]

    assert newest_progress(lines) == STEP_20


def test_a_log_without_progress_says_nothing():
    """No report is not a report of zero."""
    assert newest_progress(["hello", '{"finetune":"progress","step":']) is None


@pytest.mark.parametrize(
    ("remaining", "shortest", "seconds"),
    [(None, 10, 10), (100, 10, 10), (3_000, 10, 30), (86_400, 10, 120), (100, 2, 2), (500, 2, 5), (86_400, 300, 300)],
)
def test_logs_are_read_a_hundred_times_per_run_within_bounds(remaining: int | None, shortest: float, seconds: float):
    """A week-long run is not asked every ten seconds, a short one not only at its end."""
    assert reading_interval(remaining, shortest) == seconds


def test_a_log_request_is_bounded():
    """Only the end is read, and after the first time only what is new."""
    assert log_query(None) == {"container": "trainer", "tailLines": "400", "limitBytes": "262144"}
    assert log_query(30.4) == {"container": "trainer", "tailLines": "400", "limitBytes": "262144", "sinceSeconds": "35"}


def test_api_paths_are_counted_by_resource():
    """Metrics must not grow with the number of jobs."""
    paths = [
        "/api/v1/namespaces/a/pods/x/log",
        "/api/v1/nodes",
        "/apis/finetune.dev/v1alpha1/namespaces/a/finetunejobs/j/status",
    ]

    assert [resource_of(path) for path in [*paths, "/apis/finetune.dev/v1alpha1"]] == [
        "pods/log",
        "nodes",
        "finetunejobs/status",
        "discovery",
    ]


class Kubelet:
    """A real HTTP server that answers log requests as an API server does."""

    def __init__(self) -> None:
        self.text = ""
        self.status = 200
        self.requests: list[dict[str, str]] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self.release = asyncio.Event()
        self.release.set()

    async def log(self, request: web.Request) -> web.Response:
        self.requests.append(dict(request.query))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await self.release.wait()
        self.in_flight -= 1
        return web.Response(status=self.status, text=self.text)


@pytest.fixture
async def kubelet() -> AsyncIterator[tuple[Kubelet, Api]]:
    server, app = Kubelet(), web.Application()
    app.add_routes([web.get("/api/v1/namespaces/{namespace}/pods/{pod}/log", server.log)])
    async with served(app) as connection:
        yield server, Api(connection=connection)


def a_job(uid: str = "job") -> FineTuneJob:
    raw = {"metadata": {"name": "j", "namespace": "team", "uid": uid}, "spec": SMALLEST_SPEC}
    return FineTuneJob.model_validate(raw)


def a_pod(uid: str = "pod") -> SeenPod:
    return SeenPod(
        name="j-0-0", uid=uid, role="trainer", owner_uid="job", phase="Running", created_at=datetime.now(UTC)
    )


async def test_a_new_report_asks_for_a_pass_and_an_old_one_does_not(kubelet: tuple[Kubelet, Api]):
    """A pass is made when there is something to say."""
    server, api = kubelet
    asked: list[str] = []
    reader, pod = ProgressReader(api, 0.0, asked.append), a_pod()
    for text in (progress_line(STEP_10), progress_line(STEP_10), progress_line(STEP_20)):
        server.text, before = text, len(server.requests)
        reader.follow(a_job(), pod)
        await until(lambda before=before: len(server.requests) > before and reader._followed["job"].task.done())

    reading = reader.newest("job", pod)
    assert reading is not None
    assert (asked, reading.progress, reader.newest("job", a_pod("next"))) == (["job", "job"], STEP_20, None)


async def test_an_unreadable_log_is_not_a_stall(kubelet: tuple[Kubelet, Api]):
    """The last report stays; the Pod's status will tell what happened."""
    server, api = kubelet
    reader = ProgressReader(api, 0.0, lambda _: None)
    server.text = progress_line(STEP_10)
    reader.follow(a_job(), a_pod())
    await until(lambda: reader.newest("job", a_pod()))
    server.status, server.text = 500, "kubelet is away"
    reader.follow(a_job(), a_pod())
    await until(lambda: len(server.requests) == 2 and reader._followed["job"].task.done())

    reading = reader.newest("job", a_pod())
    assert reading is not None
    assert reading.progress == STEP_10


async def test_no_more_than_twenty_logs_are_read_at_once(kubelet: tuple[Kubelet, Api]):
    """A slow kubelet does not cost a connection per job; following returns at once all the same."""
    server, api = kubelet
    server.release.clear()
    reader = ProgressReader(api, 10.0, lambda _: None)
    for number in range(50):
        reader.follow(a_job(str(number)), a_pod(str(number)))
    await until(lambda: server.in_flight == 20)
    server.release.set()
    await until(lambda: len(server.requests) == 50)

    assert server.most_in_flight == 20
    for number in range(50):
        reader.forget(str(number))


async def test_a_reading_that_hangs_is_not_looked_at_all_the_time(kubelet: tuple[Kubelet, Api]):
    """A sick cluster must not be asked for ten passes a second and job."""
    server, api = kubelet
    server.release.clear()
    reader = ProgressReader(api, 0.0, lambda _: None)
    reader.follow(a_job(), a_pod())
    await until(lambda: server.in_flight == 1)

    assert (reader.follow(a_job(), a_pod()), len(server.requests)) == (1.0, 1)
    server.release.set()
    await until(reader._followed["job"].task.done)
