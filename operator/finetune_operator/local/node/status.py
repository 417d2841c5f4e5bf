"""Pod status as a kubelet writes it. Called by worker; computes, touches nothing."""

from collections.abc import Mapping
from dataclasses import dataclass

from finetune_operator.local.node.containers import CREATING, INITIALIZING, ContainerState
from finetune_operator.local.node.kube import Raw
from finetune_operator.local.ports import HOST


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What the node knows of a Pod."""

    states: Mapping[str, ContainerState]
    """By container name, init containers included."""
    started_at: str
    address: str
    """The one for status, not on the loopback."""
    reason: str = ""
    """Why the node itself ended the Pod: DeadlineExceeded, UnsupportedPod."""
    message: str = ""


def pod_status(pod: Raw, seen: Observed, now: str) -> Raw:
    """Return the status of a Pod."""
    init, main = pod["spec"].get("initContainers", []), pod["spec"]["containers"]
    current = phase(pod, seen)
    initialized = all(_state(each, seen, init).succeeded for each in init)
    return {
        "phase": current,
        **({"reason": seen.reason, "message": seen.message} if seen.reason else {}),
        "hostIP": HOST,
        "hostIPs": [{"ip": HOST}],
        "podIP": seen.address,
        "podIPs": [{"ip": seen.address}],
        "startTime": seen.started_at,
        "observedGeneration": pod["metadata"].get("generation", 0),
        "qosClass": pod.get("status", {}).get("qosClass", "BestEffort"),
        "conditions": conditions(pod, seen, current, initialized, now),
        "initContainerStatuses": [container_status(pod, each, _state(each, seen, init)) for each in init],
        "containerStatuses": [container_status(pod, each, _state(each, seen, init)) for each in main],
    }


def phase(pod: Raw, seen: Observed) -> str:
    """Return the phase; no container is ever restarted, so the states say it all."""
    init = [_state(each, seen, []) for each in pod["spec"].get("initContainers", [])]
    main = [_state(each, seen, []) for each in pod["spec"]["containers"]]
    if seen.reason or any(state.phase == "terminated" and not state.succeeded for state in init):
        return "Failed"
    if all(state.phase == "terminated" for state in main):
        return "Succeeded" if all(state.succeeded for state in main) else "Failed"
    return "Pending" if any(state.phase == "waiting" for state in main) else "Running"


def conditions(pod: Raw, seen: Observed, current: str, initialized: bool, now: str) -> list[Raw]:
    """Return the conditions; one that did not change keeps its time."""
    ready = current == "Running"
    wanted = [
        _condition("PodReadyToStartContainers", current in ("Pending", "Running")),
        _initialized(pod, seen, current, initialized),
        _ready("Ready", pod, seen, current, ready),
        _ready("ContainersReady", pod, seen, current, ready),
    ]
    before = {each["type"]: each for each in pod.get("status", {}).get("conditions", [])}
    return [each | {"lastTransitionTime": _since(each, before.get(each["type"]), now)} for each in wanted]


def container_status(pod: Raw, container: Raw, state: ContainerState) -> Raw:
    """Return the status of one container."""
    running = state.phase == "running"
    begun = state.phase != "waiting"
    identity = {"containerID": f"process://{pod['metadata']['uid']}/{container['name']}"} if begun else {}
    return {
        "name": container["name"],
        "image": container["image"],
        "imageID": container["image"] if begun else "",
        "restartCount": 0,
        "ready": running or (state.succeeded and container in pod["spec"].get("initContainers", [])),
        "started": running,
        "lastState": {},
        "state": {state.phase: _details(state, identity)},
        **identity,
    }


def _details(state: ContainerState, identity: Raw) -> Raw:
    message = {"message": state.message} if state.message else {}
    match state.phase:
        case "waiting":
            return {"reason": state.reason} | message
        case "running":
            return {"startedAt": state.started_at}
        case _:
            times = {"startedAt": state.started_at, "finishedAt": state.finished_at}
            return {"exitCode": state.exit_code, "reason": state.reason} | message | times | identity


def _state(container: Raw, seen: Observed, init: list[Raw]) -> ContainerState:
    """Return a container's state; one that nobody reports waits, for the init containers if there are any."""
    waits = INITIALIZING if init and container not in init else CREATING
    return seen.states.get(container["name"], waits)


def _condition(name: str, holds: bool, reason: str = "", message: str = "") -> Raw:
    return {"type": name, "status": str(holds), "reason": reason or None, "message": message or None}


def _initialized(pod: Raw, seen: Observed, current: str, initialized: bool) -> Raw:
    if current == "Succeeded":
        return _condition("Initialized", holds=True, reason="PodCompleted")
    if initialized:
        return _condition("Initialized", holds=True)
    left = [each["name"] for each in pod["spec"].get("initContainers", []) if not _state(each, seen, []).succeeded]
    message = f"containers with incomplete status: [{' '.join(left)}]"
    return _condition("Initialized", holds=False, reason="ContainersNotInitialized", message=message)


def _ready(name: str, pod: Raw, seen: Observed, current: str, ready: bool) -> Raw:
    match current:
        case "Running":
            not_ready = [
                each["name"] for each in pod["spec"]["containers"] if _state(each, seen, []).phase != "running"
            ]
            if not not_ready:
                return _condition(name, holds=ready)
        case "Succeeded":
            return _condition(name, holds=False, reason="PodCompleted")
        case "Failed":
            return _condition(name, holds=False, reason="PodFailed")
        case _:
            not_ready = [each["name"] for each in pod["spec"]["containers"]]
    message = f"containers with unready status: [{' '.join(not_ready)}]"
    return _condition(name, holds=False, reason="ContainersNotReady", message=message)


def _since(condition: Raw, before: Raw | None, now: str) -> str:
    same = before is not None and before["status"] == condition["status"]
    return str(before["lastTransitionTime"]) if same and before is not None else now
