"""What a user reads while a Pod waits, stops or is out of reach: the cause, and whose it is."""

import pytest
from finetune_operator.controller.warnings import Said, what_is_said

from tests.cluster.client import Client, Raw, eventually
from tests.cluster.conftest import StartOperator
from tests.cluster.kubelet import RUNNING, Kubelet, condition, waits
from tests.cluster.plays import preflight_fails
from tests.cluster.standin import StandIn, now_text
from tests.servers.control_plane import ControlPlane

pytestmark = pytest.mark.cluster


def reason(control_plane: ControlPlane, namespace: str, job: str) -> list[str]:
    """Return phase and reason as `kubectl get` shows them."""
    return control_plane.kubectl("get", "ftj", job, "-n", namespace, "--no-headers").stdout.split()[1:3]


@pytest.mark.parametrize("why", ["CreateContainerConfigError", "CreateContainerError"])
def test_preflight_that_cannot_start_is_explained(
    standin: StandIn, kubelet: Kubelet, start_operator: StartOperator, why: str
):
    """A Secret that is not there yet: the kubelet's words; once it is there the job goes on."""
    name = "late" if why == "CreateContainerError" else "secret"
    pod = f"{name}-preflight-1"
    standin.held.add(pod)
    start_operator().start()
    kubelet.apply(name)
    kubelet.bound(pod)

    kubelet.status(pod, "Pending", {"preflight": waits(why, 'secret "hub" not found')})

    kubelet.says(name, f'CannotStart: preflight: Pod {pod} cannot start yet: {why}: secret "hub" not found')


def is_gated(api: Client, namespace: str) -> bool:
    """Tell whether a Pod that is created now gets a gate: a policy takes a moment."""
    spec = {"containers": [{"name": "probe", "image": "probe"}]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe"}, "spec": spec}
    made = api.create(f"/api/v1/namespaces/{namespace}/pods?dryRun=All", pod)
    return bool(made["spec"].get("schedulingGates"))


def test_a_pod_behind_somebody_elses_gate_is_explained(
    api: Client, standin: StandIn, kubelet: Kubelet, start_operator: StartOperator, namespace: str
):
    """A queue's gate, which an admission webhook adds, is named."""
    name = f"{namespace}-gate"
    gate = 'Object{spec: Object.spec{schedulingGates: [Object.spec.schedulingGates{name: "kueue.x-k8s.io/admission"}]}}'
    policy = {
        "matchConstraints": {
            "resourceRules": [
                {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
            ],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        },
        "failurePolicy": "Fail",
        "reinvocationPolicy": "Never",
        "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": gate}}],
    }
    served = next((g for g in ("v1", "v1beta1") if has_policies(api, g)), "")
    if not served:
        pytest.skip("this API server mutates by webhooks only")
    group = f"/apis/admissionregistration.k8s.io/{served}"
    made = []
    for plural, kind, spec in (
        ("mutatingadmissionpolicies", "MutatingAdmissionPolicy", policy),
        ("mutatingadmissionpolicybindings", "MutatingAdmissionPolicyBinding", {"policyName": name}),
    ):
        version = f"admissionregistration.k8s.io/{served}"
        api.create(f"{group}/{plural}", {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec})
        made.append(f"{group}/{plural}/{name}")
    try:
        eventually(lambda: is_gated(api, namespace), "the policy is in force")
        start_operator().start()
        kubelet.apply("queued")
        kubelet.says(
            "queued",
            "Gated: preflight: Pod queued-preflight-1 is held by the scheduling gate kueue.x-k8s.io/admission, which the "
            "operator did not set",
        )
    finally:
        for path in made:
            api.delete(path)


def has_policies(api: Client, version: str) -> bool:
    found = api.find(f"/apis/admissionregistration.k8s.io/{version}")
    return any(each["name"] == "mutatingadmissionpolicies" for each in (found or {}).get("resources", ()))


def test_a_scheduler_that_is_not_there_is_named(api: Client, kubelet: Kubelet, start_operator: StartOperator):
    """The pool names one that nobody has installed: neither conditions nor Events of the Pod say a word."""
    pool = "/apis/finetune.dev/v1alpha1/gpupools/manual"
    api.patch(pool, {"spec": {"pod": {"schedulerName": "volcano"}}})
    try:
        operator = start_operator()
        operator.program = ("-m", "tests.cluster.impatient_operator")
        operator.start()
        kubelet.apply("unseen")

        kubelet.says(
            "unseen",
            "CannotStart: attempt 1: Pod unseen-0-0 cannot start yet: scheduler volcano has not looked at it: check that a "
            "scheduler of this name is installed and runs",
        )
        assert api.get(kubelet.path("unseen-0-0"))["status"].get("conditions") is None
    finally:
        api.patch(pool, {"spec": {"pod": None}})


def test_a_node_that_does_not_answer_is_said(
    kubelet: Kubelet, start_operator: StartOperator, control_plane: ControlPlane, namespace: str
):
    """PodsReady follows the Pod; when the node is back so is everything."""
    start_operator().start()
    kubelet.apply("quiet")
    node = kubelet.run("quiet-0-0")["spec"]["nodeName"]
    kubelet.says("quiet", "Running")

    not_ready = [{"type": "Ready", "status": "False", "lastTransitionTime": now_text()}]
    kubelet.status("quiet-0-0", "Running", {"trainer": RUNNING}, conditions=not_ready)

    kubelet.says("quiet", f"NodeSilent: attempt 1: node {node} of Pod quiet-0-0 does not answer")
    assert condition(kubelet.job("quiet"), "PodsReady")["status"] == "False"
    assert reason(control_plane, namespace, "quiet") == ["Training", "NodeSilent"]
    ready = [{"type": "Ready", "status": "True", "lastTransitionTime": now_text()}]
    kubelet.status("quiet-0-0", "Running", {"trainer": RUNNING}, conditions=ready)
    kubelet.says("quiet", "Running")


def test_a_pod_whose_phase_is_unknown_still_trains_as_far_as_anybody_knows(
    kubelet: Kubelet, start_operator: StartOperator
):
    """It is not back at waiting for its start."""
    start_operator().start()
    kubelet.apply("unknown")
    kubelet.run("unknown-0-0")
    kubelet.says("unknown", "Running")

    kubelet.status("unknown-0-0", "Unknown", {"trainer": RUNNING})

    kubelet.says("unknown", "NodeSilent")
    assert kubelet.job("unknown")["status"]["phase"] == "Training"


def test_a_pod_that_somebody_deletes_is_said_while_it_saves(
    api: Client, kubelet: Kubelet, start_operator: StartOperator
):
    """Its grace is minutes long: PodsReady is false meanwhile."""
    start_operator().start()
    kubelet.apply("deleted")
    kubelet.run("deleted-0-0")
    kubelet.says("deleted", "Running")

    api.delete(kubelet.path("deleted-0-0"))

    kubelet.says("deleted", "Stopping: attempt 1: Pod deleted-0-0 is being deleted")
    assert condition(kubelet.job("deleted"), "PodsReady")["status"] == "False"


def test_a_suspension_keeps_the_cause_behind_it(api: Client, kubelet: Kubelet, start_operator: StartOperator):
    """The image could never be pulled: it is not forgotten when the Pod is gone."""
    start_operator().start()
    kubelet.apply("unpulled")
    kubelet.bound("unpulled-0-0")
    kubelet.status("unpulled-0-0", "Pending", {"trainer": waits("ImagePullBackOff", "no such image")})
    kubelet.says("unpulled", "ImagePullFailed")

    api.patch(f"{kubelet.jobs}/unpulled", {"spec": {"suspend": True}})
    kubelet.gone("unpulled-0-0")

    kubelet.says(
        "unpulled",
        "Suspended: spec.suspend is true: set it to false to resume; attempt 1 was suspended before it started: "
        "Pod unpulled-0-0: ImagePullBackOff: no such image",
    )


def test_a_thing_that_arrives_late_is_found_without_touching_the_job(
    standin: StandIn, kubelet: Kubelet, start_operator: StartOperator
):
    """The bucket is created after the job: preflight runs again by itself, and the job goes on."""
    standin.scripts["early"] = {
        "preflight": preflight_fails("DatasetNotFound", "s3://bucket/train.jsonl does not exist")
    }
    start_operator().start()
    kubelet.apply("early", planOnly=True)
    found: Raw = kubelet.says("early", "DatasetNotFound", "Stalled")
    assert found["message"] == (
        "s3://bucket/train.jsonl does not exist; to retry, change the spec or repair the cause: for 24 hours preflight runs "
        "again by itself, at least every 10 minutes"
    )

    del standin.scripts["early"]

    kubelet.says("early", "PlanOnly", seconds=60)


def test_the_events_of_a_pod_can_be_selected(api: Client, namespace: str):
    """The server knows the field by which the operator asks for Events; a Warning and an autoscaler's note are found among them."""
    path = f"/apis/events.k8s.io/v1/namespaces/{namespace}/events"
    for uid, kind, reason, note in (
        ("mine", "Normal", "NotTriggerScaleUp", "pod didn't trigger scale-up: 1 max node group size reached"),
        ("mine", "Warning", "FailedScheduling", "0/3 nodes are available"),
        ("other", "Warning", "FailedMount", "another Pod's"),
    ):
        api.create(path, an_event(namespace, uid, kind, reason, note))

    assert what_is_said(api.items(path, fieldSelector="regarding.uid=mine")) == Said(
        warning="FailedScheduling: 0/3 nodes are available",
        autoscaler="pod didn't trigger scale-up: 1 max node group size reached",
    )


def an_event(namespace: str, uid: str, kind: str, reason: str, note: str) -> Raw:
    """Return an Event as a program other than ours writes it."""
    return {
        "metadata": {"generateName": "said-"},
        "regarding": {"kind": "Pod", "namespace": namespace, "name": "waits", "uid": uid},
        "type": kind,
        "reason": reason,
        "note": note,
        "action": "Looking",
        "eventTime": "2026-01-31T12:00:00.000000Z",
        "reportingController": "somebody",
        "reportingInstance": "somebody-1",
    }
