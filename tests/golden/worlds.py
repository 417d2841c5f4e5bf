"""Worlds as this release's operator leaves them: jobs in several phases with their children, as the API server holds them.

    python -m tests.golden worlds

They are kept per release, and a newer operator that starts in one of them must find nothing to do. Recorded again only for
the release in hand; those of earlier releases stay as they are.
"""

import json
import re
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from finetune_operator import __version__
from finetune_operator.local.components import Options
from finetune_operator.local.control_plane import down, up
from finetune_operator.local.state import ClusterState

from tests.cluster.client import FINETUNE, Client, Raw, eventually
from tests.cluster.conftest import serves
from tests.cluster.faults import FaultProxy
from tests.cluster.plays import Play, Script, a_pool, preempted, preflight_fails, training_fails
from tests.cluster.standin import StandIn
from tests.cluster.stories import GANG, Stage, Story
from tests.cluster.theatre import Theatre, theatre
from tests.servers.control_plane import ControlPlane

ROOT = Path(__file__).parents[2]
WORLDS = ROOT / "tests/data/worlds"
NAMESPACE = "recorded-namespace"
"""Replaced by that of the test."""

HOLDS: Script = {"train": Play(hold=True), "sigterm": preempted(7)}
SERVERS_OWN = ("managedFields", "resourceVersion", "creationTimestamp", "selfLink")


def until(phase: str) -> Callable[[Stage], None]:
    return lambda stage: stage.reaches(phase)


def paused(stage: Stage) -> None:
    stage.reaches("Training")
    stage.edit(suspend=True)
    stage.reaches("Suspended")


STORIES: dict[str, tuple[Story, ...]] = {
    "begun": (
        Story("old-examined", until("Preflight"), {"preflight": Play(hold=True)}),
        Story("old-planned", until("Planned"), {}, {"planOnly": True}),
        Story("old-refused", until("Failed"), {}, {"resources": {"pools": ["nowhere"]}}),
    ),
    "running": (
        Story("old-trains", until("Training"), HOLDS),
        Story("old-gang", until("Training"), HOLDS, GANG),
        Story(
            "old-retried", until("Training"), {"0": training_fails("TrainerError", "boom", checkpoint_step=10), **HOLDS}
        ),
        Story("old-paused", paused, HOLDS),
    ),
    "ended": (
        Story("old-done", until("Succeeded")),
        Story("old-failed", until("Failed"), {"preflight": preflight_fails("DatasetInvalid", "no column question")}),
        Story(
            "old-exhausted",
            until("Failed"),
            {"train": training_fails("TrainerError", "boom")},
            {"runPolicy": {"maxRetries": 1}},
        ),
    ),
}
"""World -> its jobs."""


def path(world: str, version: str = __version__) -> Path:
    return WORLDS / version / f"{world}.json"


def recorded(stage: Theatre, world: str) -> str:
    """Play a world's jobs to where they stand, and return everything that is there."""
    stage.operator.start()
    stage.play(STORIES[world])
    pods, services, jobs, plans = stage.ledger.paths
    objects = [plain(found) for each in (jobs, plans, services, pods) for found in listed(stage.api, each)]
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    text = json.dumps({"recordedAt": now, "objects": objects}, indent=1, sort_keys=True) + "\n"
    return text.replace(stage.namespace, NAMESPACE)


def listed(api: Client, collection: str) -> list[Raw]:
    """Return the objects of a collection, each with its kind."""
    found = api.get(collection)
    kind = found["kind"].removesuffix("List")
    return [{"apiVersion": found["apiVersion"], "kind": kind, **each} for each in found["items"]]


def plain(found: Raw) -> Raw:
    """Return an object without what the API server makes anew; the uid stays: children name it."""
    meta = {key: value for key, value in found["metadata"].items() if key not in SERVERS_OWN}
    return found | {"metadata": meta}


def files() -> dict[Path, str]:
    """Return the worlds of this release."""
    with tempfile.TemporaryDirectory() as folder:
        state = ClusterState(Path(folder) / "worlds")
        up(state, Options(node=False), say=print)
        try:
            return played(ControlPlane(state), Path(folder))
        finally:
            down(state, say=print)


def played(cluster: ControlPlane, folder: Path) -> dict[Path, str]:
    """Record each world in a namespace of its own."""
    cluster.kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
    cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    api = Client(cluster.kubeconfig)
    for plural in ("finetunejobs", "finetuneplans", "gpupools"):
        eventually(lambda plural=plural: serves(api, plural), f"{plural} are served")
    standin = StandIn(api)
    standin.start()
    api.ensure(f"{FINETUNE}/gpupools", a_pool())
    texts = {}
    for world in STORIES:
        path(world).parent.mkdir(parents=True, exist_ok=True)
        proxy = FaultProxy(cluster.kubeconfig, folder / world)
        with theatre(api, standin, cluster.namespace(), proxy) as stage:
            texts[path(world)] = recorded(stage, world)
    standin.stop()
    return texts


# What a test makes of them ------------------------------------------------------------------------------------------


TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


def revived(text: str, namespace: str) -> list[Raw]:
    """Return the objects of a world as if it had been recorded just now, in a namespace."""
    since = datetime.now(UTC) - moment(json.loads(text)["recordedAt"])
    shifted = TIMESTAMP.sub(lambda found: (moment(found[0]) + since).strftime("%Y-%m-%dT%H:%M:%SZ"), text)
    objects: list[Raw] = json.loads(shifted.replace(NAMESPACE, namespace))["objects"]
    return objects


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def restore(api: Client, objects: list[Raw]) -> None:
    """Create the objects; jobs come first, and their children get the owners' new uids."""
    uids: dict[str, str] = {}
    for found in objects:
        body = json.loads(renamed(json.dumps(found), uids))
        collection = collection_of(body)
        uids[found["metadata"]["uid"]] = made(api, collection, body)["metadata"]["uid"]


def renamed(text: str, uids: dict[str, str]) -> str:
    for old, new in uids.items():
        text = text.replace(old, new)
    return text


def collection_of(found: Raw) -> str:
    namespace = found["metadata"]["namespace"]
    return {
        "FineTuneJob": f"{FINETUNE}/namespaces/{namespace}/finetunejobs",
        "FineTunePlan": f"{FINETUNE}/namespaces/{namespace}/finetuneplans",
        "Pod": f"/api/v1/namespaces/{namespace}/pods",
        "Service": f"/api/v1/namespaces/{namespace}/services",
    }[found["kind"]]


def made(api: Client, collection: str, found: Raw) -> Raw:
    """Create one object with its status; a job gets its generation by as many edits as it has had."""
    meta = {key: value for key, value in found["metadata"].items() if key not in ("uid", "generation")}
    edits = found["metadata"]["generation"] - 1 if found["kind"] == "FineTuneJob" else 0
    body, own = found | {"metadata": meta}, f"{collection}/{meta['name']}"
    api.create(collection, edited(body, edits) if edits else body)
    for left in reversed(range(edits)):
        api.patch(own, {"spec": edited(body, left)["spec"]})
    now = api.get(own)
    return api.request("PUT", f"{own}/status", now | {"status": found["status"]}) if "status" in found else now


def edited(job: Raw, times: int) -> Raw:
    """Return a job as it was so many edits ago: each edit has turned `suspend`."""
    spec = job["spec"]
    return job | {"spec": spec | {"suspend": spec.get("suspend", False) ^ bool(times % 2)}}
