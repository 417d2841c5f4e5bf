"""An OCI registry as storage, on the real Distribution: whole or not at all, parts that go on, read back, refused in words."""

import io
import json
import os
import re
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from finetune_contract import Location
from finetune_trainer.errors import ReportedError, StorageUnavailable, UserError
from finetune_trainer.storage import Role, Store, open_location
from finetune_trainer.storage.registry import PART_BYTES

from tests.servers.oci_registry import PASSWORD, USER, OciRegistry, docker_config, oci_registry
from tests.servers.registry_front import Front, registry_front

Opened = Callable[..., Store]


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OciRegistry]:
    with oci_registry(tmp_path_factory.mktemp("oci")) as running:
        yield running


@pytest.fixture
def front(registry: OciRegistry) -> Iterator[Front]:
    with registry_front(registry.host) as running:
        yield running


@pytest.fixture
def repository(request: pytest.FixtureRequest) -> str:
    """A repository of the test's own."""
    return "team/" + re.sub("[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:100].rstrip("-")


@pytest.fixture
def place(registry: OciRegistry, repository: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Opened:
    """Opens the repository, through a front if one is named."""

    def opened(tag: str = ":v1", role: Role = Role.OUTPUT, at: OciRegistry | Front = registry) -> Store:
        secret = tmp_path / "secret"
        secret.mkdir(exist_ok=True)
        for key, value in at.environment.items():
            (secret / key).write_text(value + "\n")
        monkeypatch.setenv("FINETUNE_SECRETS", f"oci={secret}")
        return open_location(Location(uri=f"oci://{at.host}/{repository}{tag}", secret="oci"), role)

    return opened


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """An adapter whose weights are sent in parts."""
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    (folder / "README.md").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(os.urandom(PART_BYTES + 1000))
    return folder


def test_a_result_is_an_artifact_of_the_modelpack_format(
    place: Opened, registry: OciRegistry, repository: str, made: Path
) -> None:
    """One raw layer for each file, which says where the file belongs and what it is; nothing of it depends on the time."""
    place().upload(made, "adapter")

    manifest = registry.manifest(repository, "v1")
    config = json.loads(registry.asked("GET", f"{repository}/blobs/{manifest['config']['digest']}"))
    assert (manifest["artifactType"], manifest["config"]["mediaType"], manifest["annotations"]) == (
        "application/vnd.cncf.model.manifest.v1+json",
        "application/vnd.cncf.model.config.v1+json",
        {"dev.finetune.kind": "adapter"},
    )
    assert [(one["mediaType"], one["annotations"]["org.cncf.model.filepath"]) for one in manifest["layers"]] == [
        ("application/vnd.cncf.model.doc.v1.raw", "README.md"),
        ("application/vnd.cncf.model.weight.config.v1.raw", "adapter_config.json"),
        ("application/vnd.cncf.model.weight.v1.raw", "adapter_model.safetensors"),
    ]
    assert config == {
        "descriptor": {"name": repository.rpartition("/")[2], "version": "v1"},
        "config": {"architecture": "transformer", "format": "safetensors"},
        "modelfs": {"type": "layers", "diffIds": [layer["digest"] for layer in manifest["layers"]]},
    }


def test_a_registry_keeps_a_result(place: Opened, made: Path, tmp_path: Path) -> None:
    """The whole life of an artifact: the run's own files beside it, read back by its digest, in ranges and as a whole."""
    store = place()
    store.write_text("finetune-manifest.json", "{}")
    store.upload(made, "adapter")
    store.upload(made, "merged")
    where = store.address_of("adapter")
    by_digest = place("@" + where.partition("@")[2], Role.MODEL)
    folder = by_digest.fetch(tmp_path / "fetched")

    weights = (made / "adapter_model.safetensors").read_bytes()
    names = ["README.md", "adapter_config.json", "adapter_model.safetensors"]
    assert [file.path for file in store.files()] == [
        "finetune-manifest.json", *(f"adapter/{name}" for name in names), *(f"merged/{name}" for name in names)
    ]  # fmt: skip
    assert [file.path for file in by_digest.files()] == names
    assert {name: (folder / name).read_bytes() for name in names} == {
        name: (made / name).read_bytes() for name in names
    }
    with by_digest.open("adapter_model.safetensors") as file:
        file.seek(-10, os.SEEK_END)
        assert file.read() == weights[-10:]
    assert by_digest.read_bytes("adapter_model.safetensors", 5) == weights[:5]
    assert (store.read_text("adapter/adapter_config.json"), store.read_text("nothing")) == ("{}", None)
    store.delete("merged")
    store.delete("finetune-manifest.json")
    store.delete("nothing")
    assert [store.exists(name) for name in ("adapter", "model", "merged", "finetune-manifest.json")] == [
        True,
        False,
        False,
        False,
    ]
    assert (by_digest.revision, store.local_folder()) == (where.partition("@")[2], None)


def test_a_claim_is_created_once_and_replaced_only_when_unchanged(place: Opened) -> None:
    """Two jobs that claim one tag: the second is told."""
    store = place()
    answers = (
        store.create_text("claim", "first"),
        store.create_text("claim", "second"),
        store.replace_text("claim", "second", "third"),
        store.replace_text("claim", "first", "third"),
        store.replace_text("none", "first", "third"),
    )

    assert answers == (True, False, False, True, False)
    assert store.read_text("claim") == "third"


def test_an_upload_goes_on_where_the_connection_broke(place: Opened, front: Front, made: Path) -> None:
    """Half of a part arrived when the connection was lost: the other half follows, and nothing is sent from the start."""
    front.lose_parts = 1
    place(at=front).upload(made, "adapter")

    parts = [asked for asked in front.seen if asked[0] == "PATCH"]
    assert len(parts) == 2  # 16 MiB of the first, and all that was missing
    assert (
        place(role=Role.MODEL).read_bytes("adapter_model.safetensors")
        == (made / "adapter_model.safetensors").read_bytes()
    )


def test_a_registry_that_takes_no_parts_gets_the_whole(place: Opened, front: Front, made: Path) -> None:
    """Some registries know only uploads in one request."""
    front.refuse_parts = True
    place(at=front).upload(made, "adapter")

    assert front.count("PATCH") == 1
    assert (
        place(role=Role.MODEL).read_bytes("adapter_model.safetensors")
        == (made / "adapter_model.safetensors").read_bytes()
    )


def test_what_is_there_is_not_sent_again(place: Opened, front: Front, made: Path) -> None:
    """A run that is killed while it publishes sends only what is missing, and its tag points to the same digest."""
    store = place(at=front)
    store.upload(made, "adapter")
    first, sent = store.address_of("adapter"), front.count("POST") + front.count("PUT")
    again = place(at=front)
    again.upload(made, "adapter")

    assert (again.address_of("adapter"), front.count("POST") + front.count("PUT")) == (first, sent)


@pytest.mark.parametrize("trouble", ["lose_reads", "ignore_ranges"])
def test_a_download_goes_on_where_the_connection_broke(
    place: Opened, front: Front, made: Path, tmp_path: Path, trouble: str
) -> None:
    """From the byte that is missing, also where the registry sends everything again."""
    place().upload(made, "adapter")
    front.lose_reads = 1
    front.ignore_ranges = trouble == "ignore_ranges"
    folder = place(role=Role.MODEL, at=front).fetch(tmp_path / "fetched")

    assert (folder / "adapter_model.safetensors").read_bytes() == (made / "adapter_model.safetensors").read_bytes()


def test_what_is_read_back_must_be_what_was_sent(
    place: Opened, front: Front, made: Path, registry: OciRegistry, repository: str
) -> None:
    """Other bytes under the digest: the upload fails before there is a tag. A download fails as well."""
    front.wrong_blobs = True
    with pytest.raises(
        StorageUnavailable,
        match=r"the blob sha256:\w+ has the digest sha256:\w+, at the output oci://.*: it is read or sent again",
    ):
        place(at=front).upload(made, "adapter")
    assert not place().exists("adapter")
    place().upload(made, "adapter")
    with pytest.raises(StorageUnavailable, match="has the digest"):
        place(role=Role.MODEL, at=front).fetch(made.parent / "fetched")
    assert [path for path in (made.parent / "fetched").glob("*") if path.name[0] != "."] == []


def test_a_token_is_asked_for_with_the_password(place: Opened, front: Front, made: Path) -> None:
    """As the large registries have it: the first request is challenged, and the token server gives a token."""
    front.token = True
    place(at=front).upload(made, "adapter")

    assert place(role=Role.MODEL, at=front).exists("README.md")
    assert any(path.startswith("/token?service=tests&scope=repository") for _, path in front.seen)


def test_user_and_password_may_be_keys_of_their_own(
    place: Opened, registry: OciRegistry, repository: str, tmp_path: Path
) -> None:
    """For Secrets that are made from other sources."""
    place().write_text("a", "b")
    (tmp_path / "secret/.dockerconfigjson").unlink()
    (tmp_path / "secret/OCI_USERNAME").write_text(USER)
    (tmp_path / "secret/OCI_PASSWORD").write_text(PASSWORD)

    location = Location(uri=f"oci://{registry.host}/{repository}:v1", secret="oci")
    assert open_location(location, Role.OUTPUT).read_text("a") == "b"


def packed(
    registry: OciRegistry, repository: str, media_type: str, files: dict[str, bytes], path: str = "model"
) -> None:
    """Publish files in one tar, as modctl and kit do."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    published(registry, repository, [(media_type, path, content.getvalue())])


def published(registry: OciRegistry, repository: str, layers: list[tuple[str, str, bytes]]) -> None:
    """Publish layers (media type, path, content) as another tool would."""
    described = []
    for media_type, path, content in [("application/vnd.cncf.model.config.v1+json", "", b"{}"), *layers]:
        digest = registry.put_blob(repository, content)
        described.append(
            {
                "mediaType": media_type,
                "digest": digest,
                "size": len(content),
                "annotations": {"org.cncf.model.filepath": path},
            }
        )
    manifest = {
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/vnd.cncf.model.manifest.v1+json", "config": described[0], "layers": described[1:],
    }  # fmt: skip
    registry.asked("PUT", f"{repository}/manifests/v1", json.dumps(manifest).encode())


TARS = ("application/vnd.cncf.model.weight.v1.tar", "application/vnd.kitops.modelkit.model.v1.tar")


@pytest.mark.parametrize("media_type", TARS)
def test_tars_of_other_tools_are_read_in_place(
    place: Opened, front: Front, registry: OciRegistry, repository: str, tmp_path: Path, media_type: str
) -> None:
    """Of a model in one tar, preflight reads the descriptions only; the trainer reads all of it and checks its digest."""
    place(at=registry)
    weights = os.urandom(3_000_000)
    packed(registry, repository, media_type, {"./qwen/config.json": b'{"a": 1}', "./qwen/model.safetensors": weights})
    model = place(role=Role.MODEL, at=front)

    assert [(file.path, file.size_bytes) for file in model.files()] == [
        ("config.json", 8),
        ("model.safetensors", 3_000_000),
    ]
    described = model.fetch(tmp_path / "described", ["config.json"])
    assert (described / "config.json").read_bytes() == b'{"a": 1}'
    assert model.read_bytes("model.safetensors", 8) == weights[:8]
    whole = model.fetch(tmp_path / "whole")
    assert (whole / "model.safetensors").read_bytes() == weights
    front.wrong_blobs = True
    with pytest.raises(StorageUnavailable, match="has the digest"):
        model.fetch(tmp_path / "wrong")


def test_rows_are_in_the_layers_of_data(place: Opened, registry: OciRegistry, repository: str) -> None:
    """An artifact may carry a model and its data; an artifact of another tool, files of unknown kind."""
    place()
    published(
        registry,
        repository,
        [
            ("application/vnd.cncf.model.dataset.v1.raw", "rows.jsonl", b"{}\n"),
            ("application/vnd.cncf.model.weight.v1.raw", "model.safetensors", b"w"),
        ],
    )
    assert [file.path for file in place(role=Role.DATASET).files()] == ["rows.jsonl"]
    assert [file.path for file in place(role=Role.MODEL).files()] == ["model.safetensors"]


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
