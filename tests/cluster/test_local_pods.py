"""The process node runs Pods as a kubelet would, as far as a user or the operator can see."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.client import eventually
from tests.cluster.pod_manifests import Gate, a_pod, a_script, terminated
from tests.servers.control_plane import ProcessNode

pytestmark = pytest.mark.cluster


def output(process_node: ProcessNode, namespace: str, script: str, **container: Any) -> str:
    """Run a script to its success and return what it printed."""
    process_node.cluster.apply(a_script(namespace, "p", script, **container))
    process_node.cluster.phase("p", namespace, "Succeeded")
    return process_node.cluster.kubectl("logs", "p", "-n", namespace).stdout


@pytest.mark.parametrize(
    ("script", "phase", "end"),
    [
        ("exit 0", "Succeeded", (0, "Completed", "")),
        ("exit 85", "Failed", (85, "Error", "")),
        ("kill -KILL $$$$", "Failed", (137, "Error", "")),
        ("kill -SEGV $$$$", "Failed", (139, "Error", "")),
        ("printf '{}' > /dev/termination-log", "Succeeded", (0, "Completed", "{}")),
        ("printf %s $OUT > $OUT; exit 1", "Failed", (1, "Error", "OUT")),
    ],
)
def test_a_container_ends_as_a_kubelet_reports_it(
    process_node: ProcessNode, node_namespace: str, script: str, phase: str, end: tuple[int, str, str]
):
    """Exit code, reason and termination message of a container are those of its process."""
    container = {"env": [{"name": "OUT", "value": "/dev/termination-log"}]}
    process_node.cluster.apply(a_script(node_namespace, "p", script, **container))
    pod = process_node.cluster.phase("p", node_namespace, phase)

    code, reason, message = terminated(pod)
    (folder,) = (process_node.folder(node_namespace, "p") / "containers").iterdir()
    assert (code, reason, message.replace(str(folder / "termination-message"), "OUT")) == end


def test_a_command_that_is_not_there(process_node: ProcessNode, node_namespace: str):
    """The message names the command."""
    process_node.cluster.apply(a_pod(node_namespace, "p", ["no-such-program"]))
    pod = process_node.cluster.phase("p", node_namespace, "Failed")

    assert terminated(pod) == (128, "StartError", 'exec: "no-such-program": No such file or directory')


def test_the_log_stands_in_for_a_missing_message(process_node: ProcessNode, node_namespace: str):
    """FallbackToLogsOnError gives the end of the log when the container failed without a message."""
    script = "seq 1 2000; echo Traceback; exit 1"
    process_node.cluster.apply(a_script(node_namespace, "p", script, terminationMessagePolicy="FallbackToLogsOnError"))
    _, _, message = terminated(process_node.cluster.phase("p", node_namespace, "Failed"))

    assert message == "\n".join([*map(str, range(1922, 2001)), "Traceback\n"])


def test_a_pod_that_needs_more_than_a_process_node_is_refused(process_node: ProcessNode, node_namespace: str):
    """What is not supported is said, not ignored."""
    process_node.cluster.apply(a_pod(node_namespace, "p", [], pod={"restartPolicy": "Never"}))
    status = process_node.cluster.phase("p", node_namespace, "Failed")["status"]

    assert (status["reason"], status["message"]) == (
        "UnsupportedPod",
        "container main has no command: set it, because the process node does not use images",
    )


def test_init_containers_run_first_and_in_order(process_node: ProcessNode, node_namespace: str):
    """Init containers run one after the other on the same volumes, then the containers."""
    scratch = {"volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}]}
    steps = [
        {"name": name, "image": "any", "command": ["sh", "-c", f"echo {name} >> /scratch/steps"], **scratch}
        for name in ("first", "second")
    ]
    spec = {"initContainers": steps, "volumes": [{"name": "scratch", "emptyDir": {}}]}

    assert output(process_node, node_namespace, "cat /scratch/steps", pod=spec, **scratch) == "first\nsecond\n"


def test_a_failed_init_container_fails_the_pod(process_node: ProcessNode, node_namespace: str):
    """The containers are never started then."""
    init = {"name": "init", "image": "any", "command": ["sh", "-c", "exit 3"]}
    process_node.cluster.apply(a_script(node_namespace, "p", "true", pod={"initContainers": [init]}))
    pod = process_node.cluster.phase("p", node_namespace, "Failed")

    assert terminated(pod, "initContainerStatuses") == (3, "Error", "")
    assert pod["status"]["containerStatuses"][0]["state"] == {"waiting": {"reason": "PodInitializing"}}
    initialized = next(each for each in pod["status"]["conditions"] if each["type"] == "Initialized")
    assert (initialized["status"], initialized["message"]) == ("False", "containers with incomplete status: [init]")


def test_the_environment_is_the_pods_own(process_node: ProcessNode, node_namespace: str):
    """Values, field references, keys of Secrets and ConfigMaps, $(NAME) in values and args; nothing of the user's."""
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": node_namespace}}
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": node_namespace}}
    process_node.cluster.apply(secret | {"stringData": {"token": "t0p"}}, config | {"data": {"color": "blue"}})
    env = [
        {"name": "PLAIN", "value": "a"},
        {"name": "JOINED", "value": "$(PLAIN)-$(UNKNOWN)-$$(PLAIN)"},
        {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "RANK", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['rank']"}}},
        {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "token"}}},
        {"name": "COLOR", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "color"}}},
        {"name": "ABSENT", "valueFrom": {"secretKeyRef": {"name": "s", "key": "nope", "optional": True}}},
        {"name": "OMP_NUM_THREADS", "value": "2"},
    ]
    script = (
        'echo "$0 $1"; echo "$JOINED|$POD|$RANK|$NODE|$TOKEN|$COLOR|${ABSENT-unset}|$OMP_NUM_THREADS"; '
        'echo "$FINETUNE_DEVICE|$FINETUNE_ALLOW_FILE|${PYTEST_CURRENT_TEST-unset}"; which python'
    )
    pod = a_pod(
        node_namespace,
        "p",
        ["sh", "-c", script, "x"],
        args=["$(PLAIN)$(COLOR)"],
        env=env,
        metadata={"name": "p", "namespace": node_namespace, "labels": {"rank": "3"}},
    )
    process_node.cluster.apply(pod)
    process_node.cluster.phase("p", node_namespace, "Succeeded")
    lines = process_node.cluster.kubectl("logs", "p", "-n", node_namespace).stdout.splitlines()

    assert lines[:3] == ["x ablue", "a-$(UNKNOWN)-$(PLAIN)|p|3|cpu-0|t0p|blue|unset|2", "cpu|1|unset"]
    assert Path(lines[3]).parent == Path(sys.executable).parent


def test_a_pod_waits_for_its_secret(process_node: ProcessNode, node_namespace: str):
    """A missing Secret is named in the status; the Pod starts as soon as it is there."""
    env = [{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "late", "key": "token"}}}]
    process_node.cluster.apply(a_script(node_namespace, "p", "echo $TOKEN", env=env))

    def waiting() -> Any:
        status = process_node.cluster.get("pod", "p", "-n", node_namespace)["status"]
        return status.get("containerStatuses", [{}])[0].get("state", {}).get("waiting")

    expected = {"reason": "CreateContainerConfigError", "message": 'secret "late" not found'}
    eventually(lambda: waiting() == expected, "the Pod waits for its Secret")
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "late", "namespace": node_namespace}}
    process_node.cluster.apply(secret | {"stringData": {"token": "now"}})
    process_node.cluster.phase("p", node_namespace, "Succeeded")

    assert process_node.cluster.kubectl("logs", "p", "-n", node_namespace).stdout == "now\n"


def test_volumes_are_folders(process_node: ProcessNode, node_namespace: str):
    """downwardAPI, ConfigMap, Secret (items, optional), projected and emptyDir volumes, by mount path and subPath."""
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": node_namespace}}
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": node_namespace}}
    process_node.cluster.apply(secret | {"stringData": {"a": "1", "b": "2"}}, config | {"data": {"key": "three"}})
    field = {"path": "run.json", "fieldRef": {"fieldPath": "metadata.annotations['finetune.dev/run']"}}
    token = {"path": "token", "expirationSeconds": 600}
    volumes = [
        {"name": "run", "downwardAPI": {"items": [field]}},
        {"name": "config", "configMap": {"name": "c"}},
        {"name": "secret", "secret": {"secretName": "s", "items": [{"key": "b", "path": "deep/b"}]}},
        {"name": "none", "secret": {"secretName": "absent", "optional": True}},
        {"name": "all", "projected": {"sources": [{"secret": {"name": "s"}}, {"serviceAccountToken": token}]}},
        {"name": "scratch", "emptyDir": {}},
    ]
    mounts = [{"name": volume["name"], "mountPath": f"/v/{volume['name']}"} for volume in volumes]
    below = {"name": "scratch", "mountPath": "/v/below", "subPath": "x/y"}
    script = (
        "cat /v/run/run.json; echo; cat /v/config/key; echo; cat /v/secret/deep/b; ls /v/none | wc -l; ls /v/all; "
        "echo hello > /v/below/f; cat /v/scratch/x/y/f; echo /v/scratchy /xv/scratch s3://bucket/v/run"
    )
    process_node.cluster.apply(
        a_script(
            node_namespace,
            "p",
            script,
            volumeMounts=[*mounts, below],
            pod={"volumes": volumes},
            metadata={"name": "p", "namespace": node_namespace, "annotations": {"finetune.dev/run": '{"a": "$(B)"}'}},
        )
    )
    process_node.cluster.phase("p", node_namespace, "Succeeded")
    printed = process_node.cluster.kubectl("logs", "p", "-n", node_namespace).stdout

    assert printed == ('{"a": "$(B)"}\nthree\n20\na\nb\ntoken\nhello\n/v/scratchy /xv/scratch s3://bucket/v/run\n')


def test_a_claim_is_a_folder_that_outlives_its_pods(process_node: ProcessNode, node_namespace: str):
    """A second Pod finds what the first wrote; the folder goes with the claim."""
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "namespace": node_namespace},
        "spec": {
            "storageClassName": "standard",
            "accessModes": ["ReadWriteMany"],
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
    volume = {"name": "d", "persistentVolumeClaim": {"claimName": "data"}}
    mount = {"volumeMounts": [{"name": "d", "mountPath": "/mnt/claims/data"}], "pod": {"volumes": [volume]}}
    process_node.cluster.apply(claim, a_script(node_namespace, "first", "echo kept > /mnt/claims/data/f", **mount))
    process_node.cluster.phase("first", node_namespace, "Succeeded")

    assert output(process_node, node_namespace, "cat /mnt/claims/data/f", **mount) == "kept\n"
    folder = process_node.claim_folder(node_namespace, "data")
    assert (folder / "f").read_text() == "kept\n"
    process_node.cluster.kubectl("delete", "pod", "p", "first", "-n", node_namespace)
    process_node.cluster.kubectl("delete", "pvc", "data", "-n", node_namespace)
    eventually(lambda: not folder.exists(), "the folder is gone")


def test_logs_can_be_cut(process_node: ProcessNode, node_namespace: str):
    """--tail, --limit-bytes, --timestamps and --since-time do what they do anywhere."""
    script = "printf 'one\\ntwo\\nthree'"
    assert output(process_node, node_namespace, script) == "one\ntwo\nthree"

    def logs(*options: str) -> str:
        return process_node.cluster.kubectl("logs", "p", "-n", node_namespace, *options).stdout

    assert logs("--tail=2") == "two\nthree"
    assert logs("--limit-bytes=5") == "one\nt"
    assert re.fullmatch(r"(20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z \w+\n?){3}", logs("--timestamps"))
    assert logs("--since-time=2020-01-01T00:00:00Z") == "one\ntwo\nthree"
    assert logs("--since-time=2199-01-01T00:00:00Z") == ""


def test_logs_can_be_followed(process_node: ProcessNode, node_namespace: str):
    """kubectl logs -f shows lines as they come and ends with the container."""
    gate = Gate.made(process_node.cluster.state.root / f"gate-{node_namespace}")
    script = f"echo first; {gate.wait}; echo last"
    process_node.cluster.apply(a_script(node_namespace, "p", script))
    process_node.cluster.phase("p", node_namespace, "Running")
    with process_node.cluster.kubectl_started("logs", "-f", "p", "-n", node_namespace) as follower:
        assert follower.stdout is not None
        assert follower.stdout.readline() == "first\n"
        gate.open()
        assert follower.stdout.read() == "last\n"
        assert follower.wait(timeout=20) == 0
