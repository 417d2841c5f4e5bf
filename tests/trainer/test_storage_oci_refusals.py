"""What a registry or an artifact can be that is not used, in words; who is let in, and how."""

import json
import os
from pathlib import Path

import pytest
from finetune_contract import Location
from finetune_trainer.errors import ReportedError, UserError
from finetune_trainer.storage import Role, open_location
from finetune_trainer.storage.registry_login import Login, login_of, scheme_of

from tests.servers.oci_registry import OciRegistry, docker_config
from tests.servers.registry_front import Front
from tests.trainer.registries import Opened, published

REFUSED_LAYERS = [
    (
        "application/vnd.cncf.model.weight.v1.tar+gzip", "m",
        "{uri} has layers that are compressed with gzip, which cannot be read in parts: package it again without compression",
    ),
    ("application/vnd.cncf.model.weight.v1.tar", "m", "{uri} has a layer that is not a tar (truncated header): package it again"),
    ("application/vnd.cncf.model.weight.v1.raw", "../m", "{uri!r}: the path '../m' must not contain //, . or ..: write out the full path"),
    (
        "application/vnd.oci.image.layer.v1.tar+gzip", "m",
        "{uri} is not a model artifact but a application/vnd.cncf.model.manifest.v1+json: package it with a tool of the CNCF's "
        "ModelPack, such as modctl",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("media_type", "path", "message"), REFUSED_LAYERS)
def test_layers_that_cannot_be_read_are_refused(
    place: Opened, registry: OciRegistry, repository: str, media_type: str, path: str, message: str
) -> None:
    """The message says what to do about it."""
    place()
    published(registry, repository, [(media_type, path, b"no tar at all")])
    model = place(role=Role.MODEL)
    with pytest.raises(UserError) as refusal:
        model.files()
    assert refusal.value.message == message.format(uri=model.uri)


def refusal_of(uri: str, role: Role, secret: str = "oci") -> tuple[str, str]:
    with pytest.raises(ReportedError) as refusal:
        open_location(Location(uri=uri, secret=secret), role).files()
    return refusal.value.reason, refusal.value.message


def test_refusals_say_what_to_do(place: Opened, registry: OciRegistry, tmp_path: Path) -> None:
    """Nothing there, a password that is wrong, a Secret for another registry, no registry at all."""
    uri = place(":absent").uri
    dataset = "correct source or revision in spec.datasets"
    assert refusal_of(uri, Role.DATASET) == ("DatasetNotFound", f"the dataset {uri} does not exist: {dataset}")
    (tmp_path / "secret/.dockerconfigjson").write_text(docker_config("registry.example"))
    assert refusal_of(uri, Role.DATASET) == (
        "DatasetUnauthorized",
        f"the credentials for the dataset {uri} cannot be read: .dockerconfigjson of its Secret has no login for {registry.host}, only for "
        "registry.example. Name a Secret of type kubernetes.io/dockerconfigjson, or one with OCI_USERNAME and OCI_PASSWORD",
    )
    (tmp_path / "secret/.dockerconfigjson").write_text("no JSON")
    assert refusal_of(uri, Role.DATASET)[1].startswith(
        f"the credentials for the dataset {uri} cannot be read: .dockerconfigjson of its Secret is not a Docker configuration"
    )
    (tmp_path / "secret/OCI_PASSWORD").write_text("wrong")
    (tmp_path / "secret/OCI_USERNAME").write_text("team-a")
    assert refusal_of(uri, Role.OUTPUT) == (
        "OutputNotWritable",
        f"the output {uri} refuses access (401 UNAUTHORIZED authentication required): name a Secret of type "
        "kubernetes.io/dockerconfigjson, or one with OCI_USERNAME and OCI_PASSWORD, and check its permissions",
    )


def test_a_registry_that_does_not_answer_is_told(place: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tried again for a while, then said."""
    place()
    monkeypatch.setattr("finetune_trainer.storage.registry_answers.FIRST_PAUSE_SECONDS", 0.001)
    uri = "oci://127.0.0.1:9/a/b:v1"
    (Path(os.environ["FINETUNE_SECRETS"].partition("=")[2]) / ".dockerconfigjson").write_text(
        docker_config("127.0.0.1:9")
    )
    assert refusal_of(uri, Role.OUTPUT) == (
        "StorageUnavailable",
        f"the output {uri} does not answer (ConnectError): check the host, set OCI_PLAIN_HTTP in its Secret if it speaks plain HTTP, "
        "or wait",
    )


def test_tags_that_cannot_be_overwritten_are_found_early(place: Opened, front: Front) -> None:
    """The claim and the manifest of provenance are written under one tag: preflight's probe finds out, before any training."""
    front.fixed_tags = True
    store = place(at=front)
    store.write_text("probe", "x")
    with pytest.raises(UserError) as refusal:
        store.delete("probe")
    assert (refusal.value.reason, refusal.value.message) == (
        "OutputNotWritable",
        f"the registry does not let tags of the output {store.uri} be overwritten (412 PRECONDITION configured as immutable): allow it for "
        "this repository",
    )


ADDRESSES = [
    "oci://registry.example/Team/model:v1",
    "oci://registry.example/model",
    "oci://registry.example:v1",
    "oci://user:secret@registry.example/model:v1",
    "oci://registry.example/model@sha256:abc",
    f"oci://registry.example/model:{'t' * 117}",
]


@pytest.mark.parametrize("uri", ADDRESSES)
def test_an_address_names_one_artifact(uri: str) -> None:
    """Host, repository, and a tag or digest; a password in it is never repeated."""
    with pytest.raises(UserError) as refusal:
        open_location(Location(uri=uri), Role.MODEL)
    assert refusal.value.message.endswith(
        "must be oci://HOST/REPOSITORY:TAG or oci://HOST/REPOSITORY@sha256:DIGEST, in lower case; credentials belong in a Secret"
    )
    assert "secret@" not in refusal.value.message


def test_checkpoints_are_not_kept_in_a_registry(place: Opened) -> None:
    """Its artifacts are whole; a result by its digest is not a place to write to, either."""
    store = place(role=Role.CHECKPOINT)
    with pytest.raises(UserError) as refusal:
        store.write_text("a", "b")
    assert refusal.value.message == (
        f"the checkpoint destination {store.uri} cannot be written: oci:// holds results, and checkpoints go to s3://, gs://, az:// or pvc://"
    )
    with pytest.raises(UserError, match="a result needs a tag"):
        place(f"@sha256:{'0' * 64}")


LOGINS = [
    ("registry.example", {"https://registry.example/v2/": "a"}, "a"),
    ("docker.io", {"https://index.docker.io/v1/": "b"}, "b"),
    ("registry.example:5000", {"registry.example": "a", "registry.example:5000": "c"}, "c"),
]


@pytest.mark.parametrize(("host", "entries", "user"), LOGINS)
def test_the_login_of_a_registry_is_found(host: str, entries: dict[str, str], user: str) -> None:
    """Docker writes hosts and URLs, and its own registry under another name."""
    config = {"auths": {name: {"username": one, "password": "p"} for name, one in entries.items()}}
    assert login_of(host, {".dockerconfigjson": json.dumps(config)}) == Login(username=user, password="p")


@pytest.mark.parametrize(
    ("host", "said", "scheme"),
    [
        ("localhost:5000", "", "http"),
        ("127.0.0.1", "", "http"),
        ("127.0.0.1:5000", "false", "https"),
        ("registry", "true", "http"),
        ("registry", "", "https"),
    ],
)
def test_plain_http_is_for_this_machine_and_where_the_secret_says_so(host: str, said: str, scheme: str) -> None:
    """As Docker has it for localhost; a word that is neither true nor false is refused."""
    assert scheme_of(host, {"OCI_PLAIN_HTTP": said}) == scheme
    with pytest.raises(ValueError, match="OCI_PLAIN_HTTP of its Secret must be true or false"):
        scheme_of(host, {"OCI_PLAIN_HTTP": "yes"})
