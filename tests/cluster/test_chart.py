"""The chart as the real helm renders it: goldens, security, rights, schema, and the API server's own judgement."""

import json
from pathlib import Path

import pytest
from finetune_operator.api.crd import crds
from finetune_operator.cli.manifest_file import parse_job, parse_pools
from ruamel.yaml import YAML

from tests.cluster.client import Client
from tests.golden.chart import GOLDEN, KUSTOMIZE, SETS, kustomize_base, options, rendered, without_helm
from tests.servers.control_plane import ControlPlane
from tests.servers.helm import CHART, POOLS_SERVED, RELEASE, Helm, Raw, by_name, objects
from tests.unit.manifests.test_pod_security import ALLOWED_VOLUMES, FORBIDDEN, container_violations

pytestmark = pytest.mark.cluster

each_set = pytest.mark.parametrize("name", SETS)
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


@each_set
def test_the_rendering_reads_as_before(name: str):
    """`make goldens` writes the files anew."""
    assert rendered(name) == (GOLDEN / f"{name}.yaml").read_text()


def test_definitions_are_those_of_crds_and_are_kept():
    """Templates, so that an upgrade brings new fields; uninstalling must not delete everybody's jobs."""
    found = [each for each in objects(Helm().template()) if each["kind"] == "CustomResourceDefinition"]
    expected = [
        dict(crd, metadata={"name": crd["metadata"]["name"]})
        for crd in sorted(crds(), key=lambda crd: str(crd["metadata"]["name"]))
    ]

    assert [dict(each, metadata={"name": each["metadata"]["name"]}) for each in found] == expected
    assert [each["metadata"]["annotations"] for each in found] == [{"helm.sh/resource-policy": "keep"}] * 4


def test_definitions_can_be_left_to_others_or_given_up():
    """crds.enabled and crds.keep."""
    kinds = {each["kind"] for each in objects(Helm().template("--set=crds.enabled=false"))}
    kept = [
        each for each in objects(Helm().template("--set=crds.keep=false")) if each["kind"] == "CustomResourceDefinition"
    ]

    assert "CustomResourceDefinition" not in kinds
    assert [each["metadata"].get("annotations") for each in kept] == [None] * 4


def templates(name: str) -> dict[str, Raw]:
    """Return the Pods of a set by the container that they run."""
    found = [each["spec"]["template"] for each in objects(rendered(name)) if "template" in each.get("spec", {})]
    return {container["name"]: each for each in found for container in each["spec"]["containers"]}


def test_the_page_is_an_option():
    """Off unless it is asked for."""
    assert {name: sorted(templates(name)) for name in SETS} == {
        "air-gapped": ["operator"], "defaults": ["operator"], "high-availability": ["operator", "ui"], "namespaced": ["operator"],
    }  # fmt: skip


@each_set
def test_pods_are_restricted(name: str):
    """Pod Security Standard `restricted`, a read-only root, limits, probes, and no more of the API than is needed."""
    found = [each["spec"] for each in templates(name).values()]
    containers = [container for pod in found for container in pod["containers"]]

    assert [container_violations(each) for each in containers] == [[]] * len(found)
    assert [FORBIDDEN & set(pod) for pod in found] == [set()] * len(found)
    assert [
        volume for pod in found for volume in pod["volumes"] if not (set(volume) - {"name"}) <= ALLOWED_VOLUMES
    ] == []
    assert all({"livenessProbe", "readinessProbe"} <= set(each) for each in containers)
    assert all(set(each["resources"]["requests"]) == {"cpu", "memory", "ephemeral-storage"} for each in containers)
    assert not any(each["image"].endswith(":latest") for each in containers)
    assert not any(pod["enableServiceLinks"] for pod in found)
    operator = templates(name)["operator"]["spec"]
    assert operator["serviceAccountName"] == "finetune-operator"
    assert operator["topologySpreadConstraints"]
    assert operator["affinity"]["podAntiAffinity"]


def test_the_page_has_no_rights():
    """No token in its Pod, and no binding names its ServiceAccount: what it reads, a caller's token reads."""
    pod = templates("high-availability")["ui"]["spec"]
    bound = [subject["name"] for each in objects(rendered("high-availability")) for subject in each.get("subjects", ())]

    assert (pod["automountServiceAccountToken"], pod["serviceAccountName"]) == (False, "finetune-operator-ui")
    assert [volume for volume in pod["volumes"] if "secret" in volume or "projected" in volume] == []
    assert set(bound) == {"finetune-operator"}


@each_set
def test_a_namespace_that_enforces_restricted_admits_the_pods(name: str, control_plane: ControlPlane, namespace: str):
    """The judgement of the API server's own admission, not ours."""
    control_plane.kubectl("label", "namespace", namespace, *(f"{key}={value}" for key, value in RESTRICTED.items()))
    for container, template in templates(name).items():
        control_plane.kubectl("create", "serviceaccount", template["spec"]["serviceAccountName"], "-n", namespace)
        pod = {"apiVersion": "v1", "kind": "Pod", **template}
        pod["metadata"] = {**template["metadata"], "name": container, "namespace": namespace}
        answer = control_plane.kubectl("create", "--dry-run=server", "--validate=strict", "-f", "-", given=pod)

        assert (answer.stdout, answer.stderr) == (f"pod/{container} created (server dry run)\n", "")


@each_set
def test_the_api_server_accepts_everything(name: str, api: Client, control_plane: ControlPlane):
    """Every object, fields validated strictly, as a dry run of a server-side apply.

    Those of the Prometheus Operator need its definitions: tests/gitops/test_monitoring.py.
    """
    manifests = [
        each for each in objects(rendered(name)) if not each["apiVersion"].startswith("monitoring.coreos.com/")
    ]
    for each in {each["metadata"].get("namespace") for each in manifests} - {None}:
        api.ensure("/api/v1/namespaces", {"metadata": {"name": each}})
    answer = control_plane.kubectl(
        "apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-", given=manifests
    )

    assert len(answer.stdout.splitlines()) == len(manifests) >= 8
    assert answer.stderr == ""


@each_set
def test_no_role_reaches_further_than_named(name: str):
    """No wildcard, no Secret, no exec, no right to grant rights."""
    rules = [rule for each in objects(rendered(name)) for rule in each.get("rules", ())]
    verbs = {verb for rule in rules for verb in rule["verbs"]}
    resources = {resource for rule in rules for resource in rule["resources"]}

    assert verbs <= {"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}
    assert resources <= {
        "events", "finetunejobs", "finetunejobs/finalizers", "finetunejobs/status", "finetuneplans", "finetunepolicies",
        "finetunepolicies/status", "gpupools", "gpupools/status", "limitranges",
        "leases", "nodes", "pods", "pods/log", "resourcequotas", "services",
        "localqueues/pendingworkloads", "podgroups",
        "priorityclasses", "resourceflavors", "workloadpriorityclasses", "workloads", "workloads/status",
    }  # fmt: skip


def test_one_namespace_is_served_without_rights_elsewhere():
    """Cluster-wide, an operator of named namespaces may read pools; no logs where they are switched off."""
    found = by_name(objects(rendered("namespaced")))
    wide = found["ClusterRole", "", "finetune-system-finetune-operator"]["rules"]
    roles = {key[1]: each["rules"] for key, each in found.items() if key[0] == "Role"}

    assert wide == [{"apiGroups": ["finetune.dev"], "resources": ["gpupools"], "verbs": ["list", "watch"]}]
    assert sorted(roles) == ["finetune-system", "team-a", "team-b"]
    assert roles["team-a"] == roles["team-b"]
    assert "pods/log" not in json.dumps(roles)
    assert [key for key in found if key[0] == "ClusterRole" and key[2] != "finetune-system-finetune-operator"] == []
    assert {key[1] for key in found if key[2].endswith("-trainers")} == {"team-a", "team-b"}


def test_identity_and_rights_can_be_given():
    """Where an administrator makes ServiceAccount and roles, the chart names the former and makes neither."""
    given = ("--set=serviceAccount.create=false", "--set=serviceAccount.name=given")
    named = by_name(objects(Helm().template(*given)))
    bare = by_name(objects(Helm().template(*given, "--set=rbac.create=false", "--set=rbac.userRoles=false")))
    subjects = [each["subjects"] for key, each in named.items() if key[0].endswith("Binding")]

    assert {kind for kind, _, _ in bare} == {"CustomResourceDefinition", "Deployment"}
    assert {kind for kind, _, _ in named} - {kind for kind, _, _ in bare} == {
        "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding",
    }  # fmt: skip
    assert subjects == [[{"kind": "ServiceAccount", "name": "given", "namespace": "finetune-system"}]] * 2
    assert bare["Deployment", "finetune-system", RELEASE]["spec"]["template"]["spec"]["serviceAccountName"] == "given"


def test_names_that_look_like_numbers_stay_names(tmp_path: Path):
    """YAML reads an unquoted 123 as a number, which the API server refuses."""
    values = tmp_path / "values.json"
    values.write_text(json.dumps({
        "namespaces": ["123"], "serviceAccount": {"name": "456"}, "priorityClassName": "789",
        "gpuPools": {"4090": {
            "gpuType": "a", "gpusPerNode": 1, "maxNodes": 1, "pricePerGPUHourUSD": "1",
            "node": {"cpus": 1, "memoryGiB": 1, "ephemeralGiB": 1},
        }},
    }))  # fmt: skip
    found = by_name(objects(Helm().template(f"--values={values}")))

    assert {key for key in found if key[1] == "123"} == {
        ("Role", "123", "finetune-system-finetune-operator"), ("RoleBinding", "123", "finetune-system-finetune-operator"),
    }  # fmt: skip
    assert ("ServiceAccount", "finetune-system", "456") in found
    assert ("GPUPool", "", "4090") in found
    assert found["Deployment", "finetune-system", RELEASE]["spec"]["template"]["spec"]["priorityClassName"] == "789"


def test_two_releases_of_one_name_share_nothing_cluster_scoped():
    """Two teams may install the chart under the same name, each into its own namespace."""
    only = ("--set=crds.enabled=false", "--set=rbac.podLogs=false")
    names = [
        {(each["kind"], each["metadata"]["name"]) for each in objects(Helm().template(*only, namespace=namespace))
         if "namespace" not in each["metadata"]}
        for namespace in ("team-a", "team-b")
    ]  # fmt: skip

    assert len(names[0]) == 4
    assert names[0] & names[1] == set()


@pytest.mark.parametrize(
    ("value", "refusal"),
    [
        ("replica=2", "- at '': additional properties 'replica' not allowed"),
        ("image.tags=x", "- at '/image': additional properties 'tags' not allowed"),
        ("replicas=two", "- at '/replicas': got string, want integer"),
        ("image.digest=sha256:abc", "- at '/image/digest': 'sha256:abc' does not match pattern '^(sha256:[0-9a-f]{64})?$'"),
        ("log.level=loud", "- at '/log/level': value must be one of 'DEBUG', 'INFO', 'WARNING', 'ERROR'"),
        ("metrics.port=0", "- at '/metrics/port': minimum: got 0, want 1"),
        ("tolerations[0].keys=a", "- at '/tolerations/0': additional properties 'keys' not allowed"),
        ("networkPolicy.metricsFrom[0].pod=a", "- at '/networkPolicy/metricsFrom/0': additional properties 'pod' not allowed"),
        ("gpuPools.a.gpuTyp=x", "- at '/gpuPools/a': additional properties 'gpuTyp' not allowed"),
        ("gpuPools.a.capacity=cheap", "- at '/gpuPools/a/capacity': value must be one of 'on-demand', 'spot'"),
    ],
)  # fmt: skip
def test_a_misspelt_value_is_refused(value: str, refusal: str):
    """By name and by type, before anything reaches the cluster."""
    done = Helm().run("template", "x", str(CHART), f"--set={value}")

    assert done.returncode == 1
    assert refusal in [line.strip() for line in done.stderr.splitlines()]


def test_every_value_has_a_type_in_the_schema():
    """A value without one would be refused or, worse, unchecked."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = YAML(typ="safe").load((CHART / "values.yaml").read_text())

    assert untyped(values, schema, schema) == []
    assert open_objects(schema, "") == ["/properties/global"]


def untyped(values: Raw, schema: Raw, root: Raw, path: str = "") -> list[str]:
    """Return paths of values that the schema does not name."""
    names = [f"{path}/{name}" for name in values if name not in schema.get("properties", {})]
    for name, value in values.items():
        field = schema.get("properties", {}).get(name, {})
        if isinstance(value, dict) and value and "$ref" not in field and "properties" in field:
            names += untyped(value, field, root, f"{path}/{name}")
    return names


def open_objects(schema: Raw, path: str) -> list[str]:
    """Return where the schema lets an object hold anything; label selectors and peers are Kubernetes' business."""
    found = []
    if (
        schema.get("type") == "object"
        and "additionalProperties" not in schema
        and "Selector" not in path
        and "ipBlock" not in path
    ):
        found.append(path)
    for key in ("properties", "definitions"):
        for name, field in schema.get(key, {}).items():
            found += open_objects(field, f"{path}/{key}/{name}")
    return found + (open_objects(schema["items"], f"{path}/items") if "items" in schema else [])


def test_helms_own_linter_is_content():
    """Strict: a warning would fail it, too."""
    assert Helm().ok("lint", "--strict", str(CHART)).splitlines()[-1] == "1 chart(s) linted, 0 chart(s) failed"


def test_annotations_for_the_hub_are_true():
    """Images, definitions and examples as the chart and the API have them."""
    chart = YAML(typ="safe").load((CHART / "Chart.yaml").read_text())
    values = YAML(typ="safe").load((CHART / "values.yaml").read_text())
    told = {key.partition("/")[2]: YAML(typ="safe").load(text) for key, text in chart["annotations"].items()}
    examples = chart["annotations"]["artifacthub.io/crdsExamples"]
    manifests = "".join(f"---\n{json.dumps(each)}\n" for each in YAML(typ="safe").load(examples))

    assert [each["image"] for each in told["images"]] == [
        f"{values['image']['repository']}:{chart['appVersion']}", values["trainer"]["image"], values["trainer"]["preflightImage"],
    ]  # fmt: skip
    assert [(each["kind"], each["version"], each["name"]) for each in told["crds"]] == [
        (crd["spec"]["names"]["kind"], crd["spec"]["versions"][0]["name"], crd["metadata"]["name"]) for crd in crds()
    ]
    assert (parse_job(manifests).name, parse_pools(manifests)[0].metadata.name) == ("support-bot", "h100")


def test_the_notes_say_what_to_do_next():
    """Seen once by everybody who installs."""
    notes = Helm().ok(
        "install", "ft", str(CHART), "--dry-run=client", "--set=namespaces={a,b}", "--set=rbac.podLogs=false"
    )

    assert notes.partition("NOTES:\n")[2] == (
        "finetune-operator 0.1.0 is running in namespace default and watches a, b.\n\n"
        "1. Create GPUPools:\n"
        "     finetune pools discover > pools.yaml      (review it and enter your prices; see docs/gpu-pools.md)\n"
        "     kubectl apply -f pools.yaml\n"
        "2. Start a fine-tuning job:\n"
        "     kubectl apply -n NAMESPACE -f finetunejob.yaml\n"
        "3. Check its status:\n"
        "     kubectl get finetunejobs -A\n"
        "   The progress columns stay empty because rbac.podLogs is false.\n\n"
        "Uninstalling keeps the custom resource definitions, all FineTuneJobs and their Pods. Running jobs continue to train,"
        " but their\nstatus is not updated until an operator runs again.\n"
    )


def test_the_kustomize_base_is_up_to_date():
    """`make goldens` writes it anew."""
    assert kustomize_base() == (KUSTOMIZE / "operator.yaml").read_text()


def test_the_kustomize_base_equals_the_chart(control_plane: ControlPlane):
    """Object by object, as kubectl builds it; but for helm's own marks, and the Namespace, which helm makes by an option."""
    built = by_name(objects(control_plane.kubectl("kustomize", str(KUSTOMIZE)).stdout))
    namespace = built.pop(("Namespace", "", "finetune-system"))
    chart = by_name([without_helm(each) for each in objects(Helm().template())])
    for definition in (each for key, each in (*chart.items(), *built.items()) if key[0] == "CustomResourceDefinition"):
        del definition["metadata"]["annotations"]  # both keep their CRDs, each in the words of those who install it

    assert namespace["metadata"]["labels"] == RESTRICTED
    assert len(built) == 12
    assert built == chart


def test_pools_are_hooks_only_while_their_kind_is_not_served():
    """helm could not map them, and would refuse the whole release."""
    values = options("high-availability")[0]
    first = [each for each in objects(Helm().template(values)) if each["kind"] == "GPUPool"]
    later = [each for each in objects(Helm().template(values, POOLS_SERVED)) if each["kind"] == "GPUPool"]

    assert [each["spec"] for each in first] == [each["spec"] for each in later]
    assert [each["metadata"].get("annotations") for each in later] == [None, None]
    assert [each["metadata"]["annotations"] for each in first] == [{
        "helm.sh/hook": "post-install,post-upgrade",
        "helm.sh/hook-delete-policy": "hook-failed",
        "meta.helm.sh/release-name": "finetune-operator",
        "meta.helm.sh/release-namespace": "finetune-system",
    }] * 2  # fmt: skip
