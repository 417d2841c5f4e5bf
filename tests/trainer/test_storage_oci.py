"""An OCI registry as storage, on the real Distribution: whole or not at all, parts that go on, read back."""

import json
import os
from pathlib import Path

import pytest
from finetune_contract import Location
from finetune_trainer.errors import StorageUnavailable
from finetune_trainer.storage import Role, open_location

from tests.servers.oci_registry import PASSWORD, USER, OciRegistry
from tests.servers.registry_front import Front
from tests.trainer.registries import Opened, packed, published
from tests.trainer.store_rules import assert_claimed_once


def test_a_result_is_an_artifact_of_the_modelpack_format(
    place: Opened, registry: OciRegistry, repository: str, made_in_parts: Path
) -> None:
    """One raw layer for each file, which says where the file belongs and what it is; nothing of it depends on the time."""
    place().upload(made_in_parts, "adapter")

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


def test_a_registry_keeps_a_result(place: Opened, made_in_parts: Path, tmp_path: Path) -> None:
    """The whole life of an artifact: the run's own files beside it, read back by its digest, in ranges and as a whole."""
    store = place()
    store.write_text("finetune-manifest.json", "{}")
    store.upload(made_in_parts, "adapter")
    store.upload(made_in_parts, "merged")
    where = store.address_of("adapter")
    by_digest = place("@" + where.partition("@")[2], Role.MODEL)
    folder = by_digest.fetch(tmp_path / "fetched")

    weights = (made_in_parts / "adapter_model.safetensors").read_bytes()
    names = ["README.md", "adapter_config.json", "adapter_model.safetensors"]
    assert [file.path for file in store.files()] == [
        "finetune-manifest.json", *(f"adapter/{name}" for name in names), *(f"merged/{name}" for name in names)
    ]  # fmt: skip
    assert [file.path for file in by_digest.files()] == names
    assert {name: (folder / name).read_bytes() for name in names} == {
        name: (made_in_parts / name).read_bytes() for name in names
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
    assert_claimed_once(place())


def test_an_upload_goes_on_where_the_connection_broke(place: Opened, front: Front, made_in_parts: Path) -> None:
    """Half of a part arrived when the connection was lost: the other half follows, and nothing is sent from the start."""
    front.lose_parts = 1
    place(at=front).upload(made_in_parts, "adapter")

    parts = [asked for asked in front.seen if asked[0] == "PATCH"]
    assert len(parts) == 2  # 16 MiB of the first, and all that was missing
    assert (
        place(role=Role.MODEL).read_bytes("adapter_model.safetensors")
        == (made_in_parts / "adapter_model.safetensors").read_bytes()
    )


def test_a_registry_that_takes_no_parts_gets_the_whole(place: Opened, front: Front, made_in_parts: Path) -> None:
    """Some registries know only uploads in one request."""
    front.refuse_parts = True
    place(at=front).upload(made_in_parts, "adapter")

    assert front.count("PATCH") == 1
    assert (
        place(role=Role.MODEL).read_bytes("adapter_model.safetensors")
        == (made_in_parts / "adapter_model.safetensors").read_bytes()
    )


def test_what_is_there_is_not_sent_again(place: Opened, front: Front, made_in_parts: Path) -> None:
    """A run that is killed while it publishes sends only what is missing, and its tag points to the same digest."""
    store = place(at=front)
    store.upload(made_in_parts, "adapter")
    first, sent = store.address_of("adapter"), front.count("POST") + front.count("PUT")
    again = place(at=front)
    again.upload(made_in_parts, "adapter")

    assert (again.address_of("adapter"), front.count("POST") + front.count("PUT")) == (first, sent)


@pytest.mark.parametrize("trouble", ["lose_reads", "ignore_ranges"])
def test_a_download_goes_on_where_the_connection_broke(
    place: Opened, front: Front, made_in_parts: Path, tmp_path: Path, trouble: str
) -> None:
    """From the byte that is missing, also where the registry sends everything again."""
    place().upload(made_in_parts, "adapter")
    front.lose_reads = 1
    front.ignore_ranges = trouble == "ignore_ranges"
    folder = place(role=Role.MODEL, at=front).fetch(tmp_path / "fetched")

    assert (folder / "adapter_model.safetensors").read_bytes() == (
        made_in_parts / "adapter_model.safetensors"
    ).read_bytes()


def test_what_is_read_back_must_be_what_was_sent(
    place: Opened, front: Front, made_in_parts: Path, registry: OciRegistry, repository: str
) -> None:
    """Other bytes under the digest: the upload fails before there is a tag. A download fails as well."""
    front.wrong_blobs = True
    with pytest.raises(
        StorageUnavailable,
        match=r"the blob sha256:\w+ has the digest sha256:\w+, at the output oci://.*: it is read or sent again",
    ):
        place(at=front).upload(made_in_parts, "adapter")
    assert not place().exists("adapter")
    place().upload(made_in_parts, "adapter")
    with pytest.raises(StorageUnavailable, match="has the digest"):
        place(role=Role.MODEL, at=front).fetch(made_in_parts.parent / "fetched")
    assert [path for path in (made_in_parts.parent / "fetched").glob("*") if path.name[0] != "."] == []


def test_a_token_is_asked_for_with_the_password(place: Opened, front: Front, made_in_parts: Path) -> None:
    """As the large registries have it: the first request is challenged, and the token server gives a token."""
    front.token = True
    place(at=front).upload(made_in_parts, "adapter")

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


def test_a_tag_that_holds_something_is_occupied(place: Opened, registry: OciRegistry, repository: str) -> None:
    """An artifact of another tool, or a container image: no run has claimed it, so no run may replace it."""
    store = place()
    published(registry, repository, [("application/vnd.cncf.model.weight.v1.raw", "model.safetensors", b"w")])
    assert [store.exists(name) for name in ("adapter", "model.safetensors", "merged", "x")] == [
        True,
        True,
        False,
        False,
    ]
    published(registry, repository, [("application/vnd.oci.image.layer.v1.tar+gzip", "", b"an image")])
    assert [store.exists(name) for name in ("adapter", "model.safetensors")] == [True, False]
