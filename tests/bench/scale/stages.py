"""What the simulated nodes do to Pods, as kwok's Stages: preflight ends at once, a trainer a second after it runs."""

import json
from typing import Any

from finetune_contract import outcome_text

from tests.cluster.plays import Play, preflight_succeeds, training_succeeds

RUN_MILLISECONDS = 1000
ROLE = '.metadata.labels["finetune.dev/role"]'
NOT_DELETED = {"key": ".metadata.deletionTimestamp", "operator": "DoesNotExist"}

NODE_READY = """
{{ $now := Now }}
conditions:
{{ range NodeConditions }}
- {lastHeartbeatTime: {{ $now | Quote }}, lastTransitionTime: {{ $now | Quote }}, message: {{ .message | Quote }},
   reason: {{ .reason | Quote }}, status: {{ .status | Quote }}, type: {{ .type | Quote }}}
{{ end }}
addresses: [{address: {{ NodeIP | Quote }}, type: InternalIP}, {address: {{ NodeName | Quote }}, type: Hostname}]
phase: Running
"""

POD_RUNS = """
{{ $now := Now }}
conditions:
- {lastTransitionTime: {{ $now | Quote }}, status: "True", type: Initialized}
- {lastTransitionTime: {{ $now | Quote }}, status: "True", type: Ready}
- {lastTransitionTime: {{ $now | Quote }}, status: "True", type: ContainersReady}
containerStatuses:
{{ range .spec.containers }}
- {image: {{ .image | Quote }}, name: {{ .name | Quote }}, ready: true, restartCount: 0,
   state: {running: {startedAt: {{ $now | Quote }}}}}
{{ end }}
hostIP: {{ NodeIP | Quote }}
{{ with PodIPsWith .spec.nodeName false .metadata.uid .metadata.name .metadata.namespace }}
podIP: {{ index . 0 | Quote }}
podIPs: [{ip: {{ index . 0 | Quote }}}]
{{ end }}
phase: Running
startTime: {{ $now | Quote }}
"""

POD_SUCCEEDS = """
{{ $now := Now }}
conditions:
- {lastTransitionTime: {{ $now | Quote }}, status: "False", type: Ready, reason: PodCompleted}
- {lastTransitionTime: {{ $now | Quote }}, status: "False", type: ContainersReady, reason: PodCompleted}
containerStatuses:
{{ range .spec.containers }}
- {image: {{ .image | Quote }}, name: {{ .name | Quote }}, ready: false, restartCount: 0, started: false,
   state: {terminated: {exitCode: 0, reason: Completed, message: 'MESSAGE', startedAt: {{ $now | Quote }},
   finishedAt: {{ $now | Quote }}}}}
{{ end }}
phase: Succeeded
"""


def stages() -> str:
    """Return kwok's configuration."""
    preflight, trainer = preflight_succeeds(), training_succeeds()
    ready = '.status.conditions.[] | select( .type == "Ready" ) | .status'
    found = [
        stage("node", "Node", [{"key": ready, "operator": "NotIn", "values": ["True"]}], status=NODE_READY),
        stage("pod-runs", "Pod", [NOT_DELETED, in_phase("Pending")], status=POD_RUNS),
        ended("preflight", {"key": ROLE, "operator": "In", "values": ["preflight"]}, preflight, after=0),
        ended("trainer", {"key": ROLE, "operator": "In", "values": ["trainer"]}, trainer, after=RUN_MILLISECONDS),
        ended("other", {"key": ROLE, "operator": "DoesNotExist"}, Play(), after=RUN_MILLISECONDS),
        stage("pod-leaves", "Pod", [{"key": ".metadata.deletionTimestamp", "operator": "Exists"}], delete=True),
    ]
    return "\n---\n".join(json.dumps(each) for each in found)


def in_phase(phase: str) -> dict[str, Any]:
    """Return the expression that selects Pods in a phase."""
    return {"key": ".status.phase", "operator": "In", "values": [phase]}


def ended(name: str, whose: dict[str, Any], play: Play, *, after: int) -> dict[str, Any]:
    """Return the stage in which Pods of a role end, with what their container says."""
    said = outcome_text(play.outcome) if play.outcome else ""
    assert "'" not in said, said
    status = POD_SUCCEEDS.replace("MESSAGE", said)
    return stage(f"{name}-ends", "Pod", [NOT_DELETED, in_phase("Running"), whose], status=status, after=after)


def stage(  # a Stage as kwok spells it
    name: str, kind: str, whose: list[dict[str, Any]], *, status: str = "", delete: bool = False, after: int = 0
) -> dict[str, Any]:
    """Return one Stage."""
    delay = {"delay": {"durationMilliseconds": after}} if after else {}
    return {
        "apiVersion": "kwok.x-k8s.io/v1alpha1",
        "kind": "Stage",
        "metadata": {"name": name},
        "spec": {
            "resourceRef": {"apiGroup": "v1", "kind": kind},
            "selector": {"matchExpressions": whose},
            **delay,
            "next": {"delete": True} if delete else {"statusTemplate": status},
        },
    }
