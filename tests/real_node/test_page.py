"""The page of `finetune serve-ui` as the chart runs it: behind its Service, with no rights but those of the token that a caller shows."""

import json

import pytest

from tests.cluster.client import eventually
from tests.cluster.test_serve_ui import asked, token_for
from tests.real_node.installation import RELEASE, SYSTEM, page_address
from tests.real_node.workspace import Workspace

pytestmark = pytest.mark.real_node

READ = {
    "apiGroups": ["finetune.dev"], "resources": ["finetunejobs", "finetuneplans", "finetunepolicies"], "verbs": ["get", "list"],
}  # fmt: skip


def test_the_deployment_answers_each_caller_with_what_their_token_may_read(workspace: Workspace):
    """Under `restricted` and the NetworkPolicy, on a file system that cannot be written to. The calculator asks for no token."""
    plane, namespace = workspace.cluster, workspace.namespace
    workspace.submit("shown", suspend=True)
    workspace.until("shown", lambda status: status.get("phase") == "Suspended", "Suspended")
    reader, stranger = token_for(plane, namespace, "reader", READ), token_for(plane, namespace, "stranger")
    address, here = page_address(plane), f"/api/jobs?namespace={namespace}"
    eventually(lambda: asked(f"{address}/healthz") == (200, "ok\n"), "the page answers", 60)

    def seen(path: str, **headers: str) -> tuple[int, dict[str, object]]:
        status, text = asked(address + path, **headers)
        return status, json.loads(text)

    nobody = seen(here)
    mine = seen(here, Authorization=f"Bearer {reader}")
    refused = seen(here, Authorization=f"Bearer {stranger}")
    plan = seen("/api/plan?model=Qwen/Qwen2.5-7B&method=lora&gpus=1")
    page = asked(f"{address}/")
    pods = plane.get("pods", "-n", SYSTEM, "-l", "app.kubernetes.io/component=ui")["items"]

    assert nobody == (401, {"error": "sign in with a bearer token of this cluster to see jobs"})
    assert (mine[0], [(job["name"], job["phase"]) for job in mine[1]["jobs"]]) == (200, [("shown", "Suspended")])
    assert refused == (403, {
        "error": f'finetunejobs.finetune.dev is forbidden: User "system:serviceaccount:{namespace}:stranger" cannot list resource '
        f'"finetunejobs" in API group "finetune.dev" in the namespace "{namespace}"',
    })  # fmt: skip
    assert (plan[0], plan[1]["plan"]["method"]) == (200, "lora")
    assert (page[0], "<title>" in page[1]) == (200, True)
    assert [pod["spec"]["serviceAccountName"] for pod in pods] == [f"{RELEASE}-ui"]
    assert [status["restartCount"] for pod in pods for status in pod["status"]["containerStatuses"]] == [0]
