"""From YAML to adapter on real nodes: images, users, mounts, names and Secrets as a cluster has them."""

import json
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from demo.checks import folder_digest
from tests.cluster.client import eventually
from tests.real_node.network import API_ADDRESS
from tests.real_node.workspace import Workspace
from tests.servers.versitygw import s3_server

pytestmark = pytest.mark.real_node


EXAMPLE = Path(__file__).parents[2] / "examples/01-first-fine-tune/job.yaml"
STEPS = 4


def test_one_yaml_file_becomes_an_adapter(workspace: Workspace):
    """The demo's job on the real SmolLM2: preflight, plan, training and publishing as Pods, with fewer steps than in the demo.

    The adapter on the claim has the digest that status names.
    """
    written = EXAMPLE.read_text().replace("pvc://demo/adapters", f"pvc://team/{workspace.namespace}")
    spec = YAML(typ="safe").load(written.replace("pvc://demo", "pvc://team"))["spec"]
    spec["training"]["maxSteps"] = spec["evaluation"]["everySteps"] = STEPS
    workspace.apply("chitchat", spec)
    status = workspace.finish("chitchat")
    (artifact,) = status["artifacts"]
    (pod,) = workspace.pods("chitchat")
    container = pod["status"]["containerStatuses"][0]

    assert workspace.condition(status, "Succeeded")[:2] == ("True", "Published")
    assert (status["progress"]["step"], status["progress"]["percent"]) == (STEPS, 100)
    assert [attempt["outcome"] for attempt in status["attempts"]] == ["Succeeded"]
    assert float(status["evaluation"]["tunedLoss"]) < float(status["evaluation"]["baseLoss"])
    assert artifact["uri"] == status["adapterURI"] == f"pvc://team/{workspace.namespace}/chitchat/adapter"
    assert folder_digest(workspace.published("chitchat") / "adapter") == artifact["digest"]
    assert container["imageID"].split("@")[1] == status["plan"]["image"].split("@")[1]
    assert container["state"]["terminated"]["exitCode"] == 0


def test_two_replicas_on_two_nodes_find_each_other_by_name(workspace: Workspace):
    """Two Pods, one per node, meet at the name of replica 0 in the headless Service and train one model.

    Pods and Service go when their retention is over; the job stays.
    """
    workspace.submit("pair", resources={"gpus": 2, "pools": ["real"]})
    status = workspace.finish("pair")
    pods = {pod["metadata"]["name"]: pod for pod in workspace.pods("pair")}
    variables = pods["pair-0-1"]["spec"]["containers"][0]["env"]

    assert (status["plan"]["replicas"], status["plan"]["gpusPerReplica"]) == (2, 1)
    assert {name: pod["spec"]["nodeName"] for name, pod in pods.items()}.keys() == {"pair-0-0", "pair-0-1"}
    assert {pod["spec"]["nodeName"] for pod in pods.values()} == {"real-0", "real-1"}
    assert {each["name"]: each.get("value") for each in variables}["MASTER_ADDR"] == "pair-0-0.pair-0"
    eventually(
        lambda: [pod["status"]["phase"] for pod in workspace.pods("pair")] == ["Succeeded", "Succeeded"],
        "both Pods end, a little after their containers",
    )
    assert float(status["evaluation"]["tunedLoss"]) < float(status["evaluation"]["baseLoss"])

    workspace.change("pair", {"runPolicy": {"podRetentionSeconds": 0}})
    left = ("get", "ftj,pods,services", "-n", workspace.namespace, "-o", "name")
    eventually(
        lambda: workspace.cluster.kubectl(*left).stdout == "finetunejob.finetune.dev/pair\n", "only it stays", 60
    )


def test_the_keys_of_a_secret_are_in_the_container_and_nowhere_else(workspace: Workspace, tmp_path: Path):
    """A bucket takes the result; the key is a file that our user can read, and no object, event or log repeats it.

    The job deletes itself afterwards.
    """
    with s3_server(tmp_path, address=API_ADDRESS) as server:
        keys = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s3", "namespace": workspace.namespace}}
        workspace.cluster.apply(keys | {"stringData": server.environment})
        destination = f"s3://{server.bucket}/adapters"
        output = {"destination": destination, "credentials": {"secretName": "s3"}}
        workspace.submit("bucket", output=output)
        workspace.until("bucket", lambda status: status.get("phase") == "Training", "Training")
        seen = workspace.execute("bucket-0-0", "cat", "/mnt/secrets/s3/AWS_SECRET_ACCESS_KEY")
        mode = workspace.execute("bucket-0-0", "stat", "-L", "-c", "%a %g", "/mnt/secrets/s3/AWS_SECRET_ACCESS_KEY")
        status = workspace.finish("bucket")
        told = {
            "objects": workspace.cluster.kubectl(
                "get", "pods,ftj,events", "-n", workspace.namespace, "-o", "json"
            ).stdout,
            "preflight": workspace.log("bucket-preflight-1"),
            "trainer": workspace.log("bucket-0-0"),
        }
        stored = server.folder / server.bucket / "adapters"

        assert (seen, mode) == (server.secret_key, "440 65532\n")
        assert [name for name, text in told.items() if server.secret_key in text] == []
        assert len(json.loads(told["objects"])["items"]) > 5
        assert folder_digest(stored / "adapter") == status["artifacts"][0]["digest"]
        assert status["adapterURI"] == f"{destination}/adapter"
    workspace.change("bucket", {"runPolicy": {"ttlSecondsAfterFinished": 0}})
    gone = ("get", "ftj,pods", "-n", workspace.namespace, "-o", "name")
    eventually(lambda: workspace.cluster.kubectl(*gone).stdout == "", "the job deletes itself, and its Pods", 60)
