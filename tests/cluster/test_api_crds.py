"""The CRDs on the real API server: established, explained, shown, applied twice, tightened later."""

import json

import pytest
from finetune_operator.api.crd import crds, job_crd

from tests.cluster.client import FINETUNE, ApiError, Client, eventually
from tests.golden.explain import EXPLAINED, GOLDEN, explained
from tests.refusals import GOOD_JOB, changed

STATUS = {
    "observedGeneration": 1,
    "phase": "Training",
    "plan": None,
    "progress": {
        "step": 120, "totalSteps": 169, "percent": 71, "loss": "1.183", "evalLoss": "1.240",
        "tokensPerSecond": "9500", "modelFlopUtilisation": "0.41",
        "lastReportTime": "2026-11-23T12:00:00Z",
    },
    "cost": {"costUSD": "1.50"},
    "adapterURI": "s3://bucket/adapter/adapter",
}  # fmt: skip


@pytest.fixture
def collection(namespace: str) -> str:
    """The path of the test's own jobs."""
    return f"{FINETUNE}/namespaces/{namespace}/finetunejobs"


def test_the_files_are_accepted(api: Client, control_plane):
    """What a user applies is the file, not our objects."""
    for name in ("finetunejobs", "finetuneplans", "gpupools", "finetunepolicies"):
        answer = control_plane.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", f"crds/{name}.yaml")

        assert answer.stdout.startswith(f"customresourcedefinition.apiextensions.k8s.io/{name}.finetune.dev ")


@pytest.mark.parametrize("crd", crds(), ids=lambda crd: crd["metadata"]["name"])
def test_the_kinds_are_established(api: Client, crd: dict):
    """Names accepted, and no complaint about the schema."""
    path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd['metadata']['name']}"
    held = {c["type"]: c["status"] for c in api.get(path)["status"]["conditions"]}

    assert held == {"Established": "True", "NamesAccepted": "True"}


def test_what_no_operator_has_seen_is_not_ready(api: Client, collection: str, namespace: str):
    """kstatus compares observedGeneration with the generation, and calls an object without a status ready."""
    job = api.create(collection, changed(GOOD_JOB, {"metadata": {"name": "unseen", "namespace": namespace}}))

    assert (job["metadata"]["generation"], job["status"]) == (1, {"observedGeneration": 0})


def test_the_names_are_known(api: Client):
    """Discovery: names, scope, category."""
    found = {item["name"]: item for item in api.get(FINETUNE)["resources"]}

    assert {
        "finetunejobs", "finetunejobs/status",
        "gpupools", "gpupools/status", "finetuneplans", "finetunepolicies", "finetunepolicies/status",
    } == set(found)  # fmt: skip
    assert tuple(found["finetunepolicies"][k] for k in ("namespaced", "shortNames", "singularName")) == (
        True,
        ["ftp"],
        "finetunepolicy",
    )
    assert tuple(found["finetunejobs"][k] for k in ("namespaced", "shortNames", "singularName")) == (
        True,
        ["ftj"],
        "finetunejob",
    )
    assert tuple(found["gpupools"][k] for k in ("namespaced", "singularName", "categories")) == (
        False,
        "gpupool",
        ["finetune"],
    )


@pytest.mark.parametrize("path", EXPLAINED)
def test_explain_reads_like_documentation(api: Client, control_plane, path: str):
    """kubectl explain; `make goldens` writes the files anew."""
    assert explained(control_plane, path) == (GOLDEN / f"{path}.txt").read_text()


def test_there_is_no_other_golden_of_explain():
    """A field that is no longer asked for takes its file along."""
    assert sorted(file.stem for file in GOLDEN.glob("*.txt")) == sorted(EXPLAINED)


def table(api: Client, path: str) -> tuple[list[tuple[str, int]], list[list]]:
    """Return (column, priority) and the rows as the API server prints them for kubectl get."""
    accept = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    answer = json.loads(api.pool.request("GET", api.host + path, headers=accept, timeout=30).data)
    columns = [(column["name"], column["priority"]) for column in answer["columnDefinitions"]]
    return columns, [row["cells"] for row in answer["rows"]]


def test_kubectl_get_shows_the_run(api: Client, collection: str, namespace: str):
    """One line per job: where it is, what it costs; the adapter with -o wide."""
    api.create(collection, changed(GOOD_JOB, {"metadata": {"name": "shown", "namespace": namespace}}))
    api.patch(f"{collection}/shown/status", {"status": STATUS})
    columns, rows = table(api, collection)

    assert columns == [
        ("Name", 0), ("Phase", 0), ("Reason", 0), ("Model", 0), ("Plan", 0), ("Progress", 0), ("Loss", 0), ("Cost", 0), ("Eval", 1),
        ("Tokens/s", 1), ("MFU", 1), ("Adapter", 1), ("Age", 0),
    ]  # fmt: skip
    assert [row[:-1] for row in rows] == [
        [
            "shown",
            "Training",
            None,
            "hf://org/model",
            None,
            71,
            "1.183",
            "1.50",
            "1.240",
            "9500",
            "0.41",
            "s3://bucket/adapter/adapter",
        ]
    ]


def test_kubectl_get_shows_the_pools(api: Client):
    """GPU, how many, what they cost."""
    columns, _ = table(api, f"{FINETUNE}/gpupools")

    assert [name for name, _ in columns] == ["Name", "GPU", "Nodes", "GPUs", "In-Use", "Price", "Capacity", "Age"]


def test_jobs_are_selected_by_phase_and_model(api: Client, collection: str, namespace: str):
    """`kubectl get ftj --field-selector status.phase=Failed`."""
    for name in ("one", "two"):
        api.create(collection, changed(GOOD_JOB, {"metadata": {"name": name, "namespace": namespace}}))
    api.patch(f"{collection}/two/status", {"status": {"phase": "Failed"}})

    failed = api.items(collection, fieldSelector="status.phase=Failed")
    of_model = api.items(collection, fieldSelector="spec.model.source=hf://org/model")

    assert ([job["metadata"]["name"] for job in failed], len(of_model)) == (["two"], 2)


def test_applying_twice_changes_nothing(api: Client, control_plane, collection: str, namespace: str):
    """GitOps applies the same file for ever: the generation stays."""
    manifest = changed(GOOD_JOB, {"metadata": {"name": "again", "namespace": namespace}})
    control_plane.apply(manifest)
    first = api.get(f"{collection}/again")["metadata"]
    control_plane.apply(manifest)
    control_plane.kubectl("apply", "-f", "-", given=manifest)

    assert (1, first["uid"]) == tuple(api.get(f"{collection}/again")["metadata"][k] for k in ("generation", "uid"))


def test_a_whole_resolved_spec_can_be_written(api: Client, namespace: str):
    """No rule of the spec stands in the way of a FineTunePlan, where defaults and choices are side by side."""
    resolved = changed(GOOD_JOB, {"spec.training": {"epochs": 1, "maxSteps": 100, "neftuneAlpha": "0"}})["spec"]
    plan = {
        "apiVersion": "finetune.dev/v1alpha1",
        "kind": "FineTunePlan",
        "metadata": {"name": "full"},
        "resolved": resolved,
    }

    assert api.create(f"{FINETUNE}/namespaces/{namespace}/finetuneplans", plan)["resolved"] == resolved


def test_a_job_from_before_a_rule_can_still_be_changed(api: Client):
    """Ratcheting: a value that was allowed when it was written blocks no other edit; a new one is refused."""
    crd = moved(job_crd(), "ratchet.example.com")
    strict = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["training"]
    rules = strict.pop("x-kubernetes-validations")
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    jobs = "/apis/ratchet.example.com/v1alpha1/namespaces/default/finetunejobs"
    api.create(definitions, crd)
    try:
        both = {"epochs": 1, "maxSteps": 1}
        old = changed(GOOD_JOB, {"apiVersion": "ratchet.example.com/v1alpha1", "spec.training": both})
        eventually(lambda: created(api, jobs, old), "the loose kind is served")
        strict["x-kubernetes-validations"] = rules
        api.patch(f"{definitions}/{crd['metadata']['name']}", {"spec": crd["spec"]})
        newer = changed(old, {"metadata.name": "newer"})
        eventually(lambda: "mutually exclusive" in refusal_of_a_creation(api, jobs, newer), "the rule is enforced")

        assert api.patch(f"{jobs}/good", {"spec": {"suspend": True}})["spec"]["suspend"]
        with pytest.raises(ApiError, match="epochs and maxSteps are mutually exclusive: remove one of them"):
            api.patch(f"{jobs}/good", {"spec": {"training": {"maxSteps": 2}}})
    finally:
        api.delete(f"{definitions}/{crd['metadata']['name']}")


def moved(crd: dict, group: str) -> dict:
    """Return the CRD in another group, so that the one of the other tests stays as it is."""
    names = {"spec.names.shortNames": ["ratchet"], "spec.names.categories": []}
    return changed(crd, {"metadata": {"name": f"finetunejobs.{group}"}, "spec.group": group} | names)


def created(api: Client, path: str, body: dict) -> bool:
    """Create an object; False while its kind is not served yet."""
    try:
        api.create(path, body)
    except ApiError as error:
        if error.status == 404:
            return False
        raise
    return True


def refusal_of_a_creation(api: Client, path: str, body: dict) -> str:
    """Return what the API server says about a new object, without creating it."""
    try:
        api.create(f"{path}?dryRun=All", body)
    except ApiError as error:
        return error.message
    return ""


def test_all_kinds_were_tested():
    """A further kind needs its own lines here; plans are in test_plans, policies in test_policies."""
    assert [crd["spec"]["names"]["kind"] for crd in crds()] == [
        "FineTuneJob",
        "FineTunePlan",
        "GPUPool",
        "FineTunePolicy",
    ]


def test_a_job_that_nobody_has_looked_at_is_not_done(api: Client, collection: str, namespace: str):
    """kstatus, and with it Flux and Argo CD, takes an object without a status for one that has reached it."""
    api.create(collection, changed(GOOD_JOB, {"metadata": {"name": "new", "namespace": namespace}}))

    assert api.get(f"{collection}/new")["status"] == {"observedGeneration": 0}


def test_a_status_is_written_without_the_rest(api: Client, collection: str, namespace: str):
    """Spec and labels stay, and stay their owner's; of the status only one entry is kept of who wrote it."""
    meta = {"name": "owned", "namespace": namespace, "labels": {"team": "a"}}
    path = f"{collection}/owned"
    applied = changed(GOOD_JOB, {"metadata": meta})
    stored = api.request("PATCH", f"{path}?fieldManager=user", applied, "application/apply-patch+yaml")
    theirs = stored["metadata"]["managedFields"]
    fence = {key: stored["metadata"][key] for key in ("name", "namespace", "uid", "resourceVersion")}
    status = {"phase": "Training", "attempts": [{"number": 0, "startTime": "2026-01-31T12:00:00Z"}]}
    body = {"apiVersion": stored["apiVersion"], "kind": stored["kind"], "metadata": fence, "status": status}

    written = api.request("PUT", f"{path}/status?fieldManager=finetune-operator", body)

    assert (written["spec"], written["metadata"]["labels"]) == (stored["spec"], {"team": "a"})
    ours = [each for each in written["metadata"]["managedFields"] if each["manager"] == "finetune-operator"]
    assert [each for each in written["metadata"]["managedFields"] if each["manager"] == "user"] == theirs
    assert [each["fieldsV1"] for each in ours] == [{"f:status": {}}]


def test_kubectl_wait_reads_the_generation_of_the_status(api: Client, control_plane, collection: str, namespace: str):
    """Conditions have none of their own: what is said about an older spec does not end a wait."""
    api.create(collection, changed(GOOD_JOB, {"metadata": {"name": "waited", "namespace": namespace}}))
    held = {
        "type": "Planned",
        "status": "True",
        "reason": "Planned",
        "message": "",
        "lastTransitionTime": "2026-11-23T12:00:00Z",
    }

    def waited(generation: int) -> str:
        api.patch(f"{collection}/waited/status", {"status": {"observedGeneration": generation, "conditions": [held]}})
        options = ("-n", namespace, "--for=condition=Planned", "--timeout=1s")
        return control_plane.kubectl("wait", "finetunejob/waited", *options, check=False).stdout

    assert (waited(0), waited(1)) == ("", "finetunejob.finetune.dev/waited condition met\n")
