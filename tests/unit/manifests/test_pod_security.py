"""PodSecurity `restricted`, checked over every Pod that any plan can produce."""

from typing import Any

from finetune_operator.manifests.children import children
from finetune_operator.manifests.preflight import preflight_pod
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.manifests.manifest_builders import RICH, a_pinned_job

ALLOWED_VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret",
}  # fmt: skip
FORBIDDEN = {"hostNetwork", "hostPID", "hostIPC", "hostUsers", "sysctls"}


def violations(pod: dict[str, Any]) -> list[str]:
    """Return what the Pod Security Standard `restricted` (kubernetes.io) forbids, and what our own rules do."""
    spec, found = pod["spec"], []
    found += sorted(FORBIDDEN & set(spec))
    found += [volume["name"] for volume in spec["volumes"] if not (set(volume) - {"name"}) <= ALLOWED_VOLUMES]
    found += [] if non_root(spec["securityContext"]) else ["Pod runs as root"]
    for container in (*spec["containers"], *spec.get("initContainers", ())):
        found += [f"{container['name']}: {what}" for what in container_violations(container)]
    found += ["API token"] if spec["automountServiceAccountToken"] else []
    found += ["service links"] if spec["enableServiceLinks"] else []
    found += ["deaf at the start"] if not spec["shareProcessNamespace"] else []
    found += ["restarts"] if spec["restartPolicy"] != "Never" else []
    return found


def non_root(context: dict[str, Any]) -> bool:
    return bool(context["runAsNonRoot"] and context["runAsUser"] and context["fsGroup"])


def container_violations(container: dict[str, Any]) -> list[str]:
    context, found = container["securityContext"], []
    found += ["privilege escalation"] if context["allowPrivilegeEscalation"] is not False else []
    found += ["capabilities"] if context["capabilities"] != {"drop": ["ALL"]} else []
    found += ["seccomp"] if context["seccompProfile"]["type"] not in ("RuntimeDefault", "Localhost") else []
    found += ["root"] if not context["runAsNonRoot"] or context.get("runAsUser") == 0 else []
    found += ["writable root"] if not context["readOnlyRootFilesystem"] else []
    found += ["host port"] if any("hostPort" in port for port in container.get("ports", ())) else []
    found += ["no limits"] if not {"memory", "ephemeral-storage"} <= set(container["resources"]["limits"]) else []
    found += ["privileged"] if context.get("privileged") else []
    return found


plans = st.fixed_dictionaries({
    "gpus_per_replica": st.integers(1, 16),
    "method": st.sampled_from(["lora", "qlora", "full"]),
    "zero_stage": st.sampled_from([0, 2, 3]),
    "offload": st.sampled_from(["none", "optimizer", "all"]),
    "host": st.fixed_dictionaries({
        "memory_gib": st.integers(1, 4000), "cpus": st.integers(1, 256), "ephemeral_gib": st.integers(1, 9000),
        "shm_gib": st.integers(1, 512),
    }),
})  # fmt: skip
places = st.sampled_from(["pvc://claim-a/x", "pvc://claim-b/y", "s3://bucket/x", "file:///data/x"])
sources = places.map(lambda uri: {"source": uri})
specs = st.fixed_dictionaries(
    {
        "model": sources,
        "datasets": st.lists(sources, min_size=1, max_size=4),
        "output": places.map(lambda uri: {"destination": uri}),
    },
    optional={name: st.just(RICH[name]) for name in ("lora", "serviceAccountName", "priorityClassName", "checkpoint")},
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plan=plans, spec=specs, replicas=st.integers(1, 3))
def test_every_pod_is_restricted(plan: dict[str, Any], spec: dict[str, Any], replicas: int):
    """No plan, place or option leads out of PodSecurity restricted."""
    job = a_pinned_job(replicas=replicas, plan=plan, **spec)
    made = [*children(job, job.status, 0), preflight_pod(job, 1, image="p")]
    pods = [item for item in made if item["kind"] == "Pod"]

    assert len(pods) == replicas + 1
    assert [violations(pod) for pod in pods] == [[]] * len(pods)


def test_the_checker_finds_what_it_is_for():
    """A checker that never objects proves nothing."""
    pod = preflight_pod(a_pinned_job(), 1, image="p")
    pod["spec"]["hostNetwork"] = True
    pod["spec"]["volumes"].append({"name": "disk", "hostPath": {"path": "/"}})
    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True

    assert violations(pod) == ["hostNetwork", "disk", "preflight: privilege escalation"]
