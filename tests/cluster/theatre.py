"""Where stories are played: an operator behind a proxy, a ledger of all that happens, and how it ended. Called by test_faults_*."""

import os
import random
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from urllib3.exceptions import HTTPError

from tests.cluster.client import FINETUNE, ApiError, Client, Raw, eventually
from tests.cluster.faults import FaultProxy
from tests.cluster.plays import a_job
from tests.cluster.standin import StandIn
from tests.cluster.stories import SECONDS, STORIES, Stage, Story
from tests.cluster.supervised_operator import SupervisedOperator

WHOLE = os.environ.get("FINETUNE_FAULTS") == "all"
"""`make faults` sets it; otherwise a sample is played."""

Case = TypeVar("Case")

QUIET_LISTS = 3
"""Comparisons without a write in between, after which nothing more is to come."""


@dataclass
class Ledger:
    """Which Pods, Services, jobs and plans of a namespace were ever added and deleted, and how often."""

    api: Client
    namespace: str
    entries: Counter[tuple[str, str]] = field(default_factory=Counter)
    uids: dict[str, str] = field(default_factory=dict)
    """Those that exist -> their names."""
    _stopped: threading.Event = field(default_factory=threading.Event)

    @property
    def paths(self) -> tuple[str, ...]:
        core = f"/api/v1/namespaces/{self.namespace}"
        ours = f"{FINETUNE}/namespaces/{self.namespace}"
        return (f"{core}/pods", f"{core}/services", f"{ours}/finetunejobs", f"{ours}/finetuneplans")

    def start(self) -> None:
        for path in self.paths:
            version = self.api.get(path)["metadata"]["resourceVersion"]
            threading.Thread(target=self._watch, args=(path, version), daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    def _watch(self, path: str, version: str) -> None:
        while not self._stopped.is_set():
            try:
                self._follow(path, version or self.api.get(path)["metadata"]["resourceVersion"])
            except KeyError:  # the version is too old: nothing has happened for long
                version = ""
            except (ApiError, OSError, HTTPError):  # the namespace and the server go with the test
                if not self._stopped.is_set():
                    raise

    def _follow(self, path: str, version: str) -> None:
        for event in self.api.watch(path, version, self._stopped.is_set):
            self._enter(event["type"], event["object"])

    def _enter(self, kind: str, found: Raw) -> None:
        uid, name = found["metadata"]["uid"], f"{found['kind']} {DIGEST.sub('', found['metadata']['name'])}"
        if kind == "ADDED":
            self.entries[name, "added"] += 1
            self.uids[uid] = name
        elif kind == "DELETED":
            self.entries[name, "deleted"] += 1
            self.uids.pop(uid, None)

    def complete(self) -> Counter[tuple[str, str]]:
        """Return all entries, once they agree with what exists."""

        def agrees() -> bool:
            listed = {found["metadata"]["uid"] for path in self.paths for found in self.api.items(path)}
            return listed == set(self.uids)

        eventually(agrees, "the ledger agrees with the API server", SECONDS)
        return Counter(self.entries)


@dataclass(frozen=True)
class Ending:
    """All that must not depend on faults."""

    jobs: dict[str, Raw]
    pods: dict[str, str]
    services: tuple[str, ...]
    entries: dict[tuple[str, str], int]


def facts(value: Any, path: str = "") -> dict[str, str]:
    """Return an ending as one line for each fact in it."""
    if isinstance(value, dict):
        parts = value.items()
    elif isinstance(value, (list, tuple)):
        parts = enumerate(value)
    else:
        return {path: repr(value)}
    return {line: fact for key, each in parts for line, fact in facts(each, f"{path}.{key}").items()}


def differences(found: Ending, expected: Ending) -> list[str]:
    """Return what ended differently."""
    here, there = facts(vars(found)), facts(vars(expected))
    return [
        f"{path}: {here.get(path)} instead of {there.get(path)}"
        for path in sorted(here.keys() | there.keys())
        if here.get(path) != there.get(path)
    ]


TIMES = re.compile(
    r"[tT]ime$|USD$|GPUSeconds$|^(gpuSeconds|gpuHours|progress|uid|namespace|resourceVersion|managedFields)$"
)
DIGEST = re.compile(r"-[0-9a-f]{8}$")
"""At the end of a plan's name: of its content and of the job's uid."""
NUMBERS = re.compile(r"\d[\d.,:]*")


def timeless(value: Any) -> Any:
    """Return a status without what depends on when and where it was written."""
    if isinstance(value, dict):
        return {key: timeless(each) for key, each in value.items() if not TIMES.search(key)}
    if isinstance(value, list):
        return [timeless(each) for each in value]
    return value


def told(job: Raw) -> Raw:
    """Return how a job ended: its status, the figures of its sentences and what nobody may have heard aside."""
    story = STORIES.get(job["metadata"]["name"])
    unsaid = story.unsaid if story is not None else ()
    status: Raw = {key: value for key, value in timeless(job.get("status", {})).items() if key not in unsaid}
    if "planName" in status:
        status["planName"] = DIGEST.sub("", status["planName"])
    for condition in status.get("conditions", []):
        condition["message"] = NUMBERS.sub("N", condition.get("message", ""))
    return status


@dataclass
class Theatre:
    """Plays stories in a namespace, with an operator behind a proxy."""

    api: Client
    standin: StandIn
    namespace: str
    proxy: FaultProxy
    operator: SupervisedOperator
    ledger: Ledger

    def play(self, stories: Sequence[Story]) -> Ending:
        """Play some stories at the same time to their ends; return what is left and what happened."""
        for story in stories:
            self.standin.scripts[story.name] = story.script
            self.api.create(self.ledger.paths[2], a_job(story.name, **story.spec))
        with ThreadPoolExecutor(len(stories)) as cast:
            list(cast.map(lambda story: story.act(Stage(self.api, self.namespace, story.name)), stories))
        self.settle()
        return self.ending()

    def close(self) -> None:
        """End the operator and the ledger; what is there stays."""
        self.operator.stop()
        self.ledger.stop()

    def settle(self) -> None:
        """Wait until several comparisons have brought no write."""
        seen = {"writes": -1, "lists": 0}

        def quiet() -> bool:
            lists = sum(1 for call in self.proxy.calls if call == ("GET", self.ledger.paths[2]))
            if len(self.proxy.writes) != seen["writes"]:
                seen.update(writes=len(self.proxy.writes), lists=lists)
            return lists >= seen["lists"] + QUIET_LISTS

        eventually(quiet, "no more writes", SECONDS)

    def ending(self) -> Ending:
        """Return what is there now."""
        pods, services, jobs, _ = (self.api.items(path) for path in self.ledger.paths)
        return Ending(
            jobs={job["metadata"]["name"]: told(job) for job in jobs},
            pods={pod["metadata"]["name"]: pod["status"]["phase"] for pod in pods},
            services=tuple(sorted(service["metadata"]["name"] for service in services)),
            entries=dict(self.ledger.complete()),
        )


@contextmanager
def theatre(api: Client, standin: StandIn, namespace: str, proxy: FaultProxy) -> Iterator[Theatre]:
    """Raise the curtain: ledger, proxy and operator."""
    proxy.folder.mkdir(parents=True, exist_ok=True)
    proxy.start()
    ledger = Ledger(api, namespace)
    ledger.start()
    options = (f"--namespace={namespace}",)
    operator = SupervisedOperator(proxy.operator_kubeconfig, proxy.folder / "operator.log", options)
    stage = Theatre(api, standin, namespace, proxy, operator, ledger)
    try:
        yield stage
    finally:
        stage.close()
        proxy.stop()
        print(operator.text)  # pytest shows it when the test fails


Open = Callable[[], Theatre]
"""Raises the curtain of a theatre in a namespace of its own."""


def undisturbed(curtain: Open, *stories: Story) -> tuple[Ending, int]:
    """Return how stories end without faults, and after how many writes."""
    stage = curtain()
    stage.operator.start()
    ending, writes = stage.play(stories), len(stage.proxy.writes)
    stage.close()
    return ending, writes


def sample(cases: Iterable[Case], size: int, seed: int) -> list[Case]:
    """Return all cases where `make faults` asks for them, else some."""
    everything = list(cases)
    return everything if WHOLE else random.Random(seed).sample(everything, size)
