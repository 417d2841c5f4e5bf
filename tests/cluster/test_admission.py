"""The chart's admission policies on the real API server: images and Secrets of Pods of jobs, with the exact words of a refusal."""

from collections.abc import Callable, Iterator

import pytest

from tests.cluster.client import ApiError, Client, Raw, eventually
from tests.servers.control_plane import ControlPlane
from tests.servers.helm import CHART, Helm, objects

pytestmark = pytest.mark.cluster

DIGEST = "sha256:" + "ab" * 32
MIRROR = "registry.example.com/ml"
GOOD = f"{MIRROR}/trainer@{DIGEST}"
IMAGES = (
    "--set=admission.images.enabled=true", f"--set=admission.images.registries={{{MIRROR}}}", f"--set=trainer.image={GOOD}",
    f"--set=trainer.preflightImage={MIRROR}/preflight@{DIGEST}",
)  # fmt: skip
SECRETS = ("--set=admission.secrets.enabled=true",)


def pod(name: str, image: str = GOOD, secret: str = "", role: str = "trainer", **spec: object) -> Raw:
    volumes = [{"name": "s", "secret": {"secretName": secret}}] if secret else []
    return {
        "metadata": {"name": name, "labels": {"finetune.dev/role": role} if role else {}},
        "spec": {"containers": [{"name": "c", "image": image}], "volumes": volumes, **spec},
    }


def refusal(api: Client, path: str, manifest: Raw) -> str:
    """Return the words with which the API server refuses an object; empty where it takes it."""
    try:
        api.create(f"{path}?dryRun=All", manifest)
    except ApiError as error:
        return error.message
    return ""


Enforced = Callable[..., None]


@pytest.fixture
def enforced(control_plane: ControlPlane) -> Iterator[Enforced]:
    """Return what installs the policies of the chart and waits until they are in force; they end with the test."""
    made: list[Raw] = []

    def install(probe: Callable[[], object], *options: str) -> None:
        found = [each for each in objects(Helm().template(*options)) if "AdmissionPolicy" in each["kind"]]
        made.extend(found)
        control_plane.apply(*found)
        eventually(probe, "the policy is in force", 30)

    yield install
    for each in made:
        control_plane.kubectl("delete", each["kind"].lower(), each["metadata"]["name"])


def denied(kind: str, words: str, name: str = "a") -> str:
    policy = f"finetune-system-finetune-operator-{kind}"
    return f"pods \"{name}\" is forbidden: ValidatingAdmissionPolicy '{policy}' with binding '{policy}' denied request: {words}"


def test_images_are_pinned_and_from_the_registry(api: Client, namespace: str, enforced: Enforced):
    """Of containers, init containers and sidecars of our Pods; other Pods are nobody's business here."""
    path = f"/api/v1/namespaces/{namespace}/pods"
    api.create(path, pod("older", image="old:1"))
    enforced(lambda: refusal(api, path, pod("a", image="x:1")), *IMAGES)
    unpinned = "is not pinned by digest: use IMAGE@sha256:... (admission.images of the chart)"
    foreign = f"does not come from {MIRROR}: copy it there (admission.images of the chart)"
    injected = pod("a", initContainers=[{"name": "proxy", "image": "istio/proxyv2:1.29"}])

    assert refusal(api, path, pod("a")) == ""
    assert refusal(api, path, pod("a", image="x:1", role="")) == ""
    assert refusal(api, path, pod("a", image=f"{MIRROR}/trainer:1")) == denied(
        "images", f"image {MIRROR}/trainer:1 {unpinned}"
    )
    assert refusal(api, path, pod("a", image=f"{MIRROR}-evil/trainer@{DIGEST}")) == denied(
        "images", f"image {MIRROR}-evil/trainer@{DIGEST} {foreign}"
    )
    assert refusal(api, path, injected) == denied("images", f"image istio/proxyv2:1.29 {unpinned}")
    assert (
        api.patch(f"{path}/older", {"metadata": {"labels": {"touched": "yes"}}})["metadata"]["labels"]["touched"]
        == "yes"
    )
    older = api.get(f"{path}/older")
    older["spec"]["containers"][0]["image"] = "evil:1"
    with pytest.raises(ApiError) as swapped:
        api.request("PUT", f"{path}/older", older)
    assert swapped.value.message == denied("images", f"image evil:1 {unpinned}", "older")


def test_only_listed_secrets_are_mounted(api: Client, namespace: str, enforced: Enforced):
    """As the namespace's FineTunePolicy says; without a list, and without a policy, as before."""
    path = f"/api/v1/namespaces/{namespace}/pods"
    policies = f"/apis/finetune.dev/v1alpha1/namespaces/{namespace}/finetunepolicies"
    other = pod("a", secret="bank-keys")
    without = refusal(api, path, other)
    api.create(policies, {
        "apiVersion": "finetune.dev/v1alpha1", "kind": "FineTunePolicy", "metadata": {"name": "default"},
        "spec": {"allow": {"secrets": ["finetune-*", "hub.token"]}},
    })  # fmt: skip
    enforced(lambda: refusal(api, path, other), *SECRETS)
    words = "may not be mounted into Pods of jobs: allow.secrets of FineTunePolicy default is finetune-*, hub.token"
    projected = pod("a", volumes=[{"name": "p", "projected": {"sources": [{"secret": {"name": "bank-keys"}}]}}])

    assert without == ""
    assert refusal(api, path, other) == denied("secrets", f"Secret bank-keys {words}")
    assert refusal(api, path, pod("a", secret="hubxtoken")) == denied("secrets", f"Secret hubxtoken {words}")
    assert refusal(api, path, projected) == denied(
        "secrets",
        "volume p projects a Secret, which allow.secrets of FineTunePolicy default does not cover: mount it as a volume of its own",
    )
    assert [refusal(api, path, pod("a", secret=name)) for name in ("finetune-s3", "hub.token")] == ["", ""]
    assert refusal(api, path, pod("a", secret="bank-keys", role="")) == ""
    api.patch(f"{policies}/default", {"spec": {"allow": {"secrets": None}}})
    eventually(lambda: not refusal(api, path, other), "a policy without a list allows all Secrets")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ("--set=admission.images.enabled=true", "--set=admission.images.registries={ghcr.io}"),
            "admission.images is enabled, but image ghcr.io/finetune-operator/trainer:0.1.0 has no digest: "
            "set trainer.image and trainer.preflightImage to IMAGE@sha256:...",
        ),
        (
            (*IMAGES, "--set=admission.images.registries={ghcr.io}"),
            f"admission.images is enabled, but image {GOOD} is not from admission.images.registries: add its registry",
        ),
        (
            ("--set=networkPolicy.jobs.enabled=true",),
            "networkPolicy.jobs is enabled, but no namespace has been named: "
            "list the namespaces with jobs in networkPolicy.jobs.namespaces",
        ),
    ],
)  # fmt: skip
def test_values_that_would_stop_every_job_are_refused_at_once(options: tuple[str, ...], words: str):
    """By helm, not later by the API server."""
    done = Helm().run("template", "x", str(CHART), *options)

    assert done.returncode == 1
    assert words in done.stderr
