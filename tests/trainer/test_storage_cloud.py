"""Google Cloud Storage and Azure Blob Storage, on emulators: whole or not at all, read back, refused in words."""

import base64
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from finetune_contract import Location
from finetune_trainer.errors import ReportedError, StorageUnavailable
from finetune_trainer.storage import Role, Store, open_location
from finetune_trainer.storage.azure import AzureObjects
from finetune_trainer.storage.google import GoogleObjects
from finetune_trainer.storage.objects import PART_BYTES

from tests.servers.azurite import ACCOUNT, AzureServer, azure_server
from tests.servers.cloud_storage import GoogleServer, google_server
from tests.trainer.store_rules import assert_claimed_once

Opened = Callable[..., Store]


Server = AzureServer | GoogleServer
SERVERS = {"azure": azure_server, "google": google_server}


@pytest.fixture(scope="session", params=SERVERS)
def server(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Server]:
    with SERVERS[request.param](tmp_path_factory.mktemp(request.param)) as running:
        yield running


@pytest.fixture
def place(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Opened:
    """Opens a folder in a container of the test's own."""
    (tmp_path / "secret").mkdir()
    for key, value in server.environment.items():
        (tmp_path / "secret" / key).write_text(value + "\n")
    monkeypatch.setenv("FINETUNE_SECRETS", f"cloud={tmp_path}/secret")
    container = server.make_container(re.sub("[^a-z0-9]+", "-", request.node.name)[:60].rstrip("-"))

    def opened(path: str = "run", role: Role = Role.OUTPUT) -> Store:
        return open_location(Location(uri=f"{container}/{path}", secret="cloud"), role)

    return opened


def test_a_container_keeps_files(place: Opened, tmp_path: Path) -> None:
    """The whole life of an artifact, with a file that is sent in parts."""
    made = tmp_path / "made"
    (made / "deep").mkdir(parents=True)
    (made / "deep/weights").write_bytes(os.urandom(PART_BYTES + 1000))
    (made / "COMPLETE").write_text("")
    store = place()
    store.write_text("keep.txt", "kept")
    store.upload(made, "adapter")
    folder = store.fetch(tmp_path / "fetched", ["adapter/deep/weights"])

    whole = (made / "deep/weights").read_bytes()
    assert [(file.path, file.size_bytes) for file in store.files()] == [
        ("adapter/COMPLETE", 0), ("adapter/deep/weights", len(whole)), ("keep.txt", 4),
    ]  # fmt: skip
    assert (folder / "adapter/deep/weights").read_bytes() == whole
    assert store.read_bytes("adapter/deep/weights", 5) == whole[:5]
    with store.open("adapter/deep/weights") as file:
        file.seek(-10, os.SEEK_END)
        assert file.read() == whole[-10:]
    assert (store.read_text("keep.txt"), store.read_text("nothing")) == ("kept", None)
    store.delete("adapter")
    store.delete("nothing")
    assert [file.path for file in store.files()] == ["keep.txt"]
    assert (store.exists("keep.txt"), store.exists("adapter"), store.local_folder()) == (True, False, None)


def test_an_object_is_created_once_and_replaced_only_when_unchanged(place: Opened) -> None:
    """Two jobs that claim one place: the second is told."""
    assert_claimed_once(place())


def test_single_objects_and_globs_are_data(place: Opened) -> None:
    """As in a bucket of S3."""
    store = place("data")
    for name in ("a.jsonl", "b.jsonl", "c.txt"):
        store.write_text(name, name)

    (one,) = place("data/a.jsonl", Role.DATASET).files()
    assert (one.path, place("data/a.jsonl", Role.DATASET).read_text(one.path)) == ("a.jsonl", "a.jsonl")
    assert [file.path for file in place("data/*.jsonl", Role.DATASET).files()] == ["a.jsonl", "b.jsonl"]


def test_what_is_read_back_must_be_what_was_sent(
    place: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another object there in the end: the upload fails, so that nobody publishes it."""
    (tmp_path / "made").mkdir()
    (tmp_path / "made/weights").write_bytes(b"right")
    for kind in (AzureObjects, GoogleObjects):
        monkeypatch.setattr(kind, "put_file", lambda self, key, file: self.put(key, b"wrong"))
    with pytest.raises(StorageUnavailable, match=r"weights at the output .* is not what was uploaded"):
        place().upload(tmp_path / "made")


def test_refusals_say_what_to_do(place: Opened, server: Server, tmp_path: Path) -> None:
    """What is not there, a key that is wrong, a URI without a path."""
    uri = f"az://{ACCOUNT}/nowhere/x" if isinstance(server, AzureServer) else "gs://nowhere/x"
    with pytest.raises(ReportedError) as refusal:
        open_location(Location(uri=uri, secret="cloud"), Role.DATASET).files()
    assert (refusal.value.reason, refusal.value.message) == (
        "DatasetNotFound",
        f"the bucket or container nowhere of the dataset {uri} does not exist: correct source or revision in spec.datasets",
    )
    if isinstance(server, GoogleServer):  # the emulator asks nobody who they are
        (tmp_path / "secret/GOOGLE_CREDENTIALS").write_text("not JSON")
        with pytest.raises(ReportedError) as refusal:
            open_location(Location(uri=uri, secret="cloud"), Role.DATASET)
        assert refusal.value.message == (
            "the credentials for the dataset gs://nowhere/x cannot be read: name a Secret with GOOGLE_CREDENTIALS (the JSON of a service "
            "account's key), or use a workload identity"
        )
        return
    with pytest.raises(ReportedError) as refusal:
        open_location(Location(uri=f"az://{ACCOUNT}/models", secret="cloud"), Role.DATASET)
    assert (
        refusal.value.message == f"az://{ACCOUNT}/models: az:// needs three parts, such as az://ACCOUNT/CONTAINER/PATH"
    )
    (tmp_path / "secret/AZURE_STORAGE_ACCOUNT_KEY").write_text(base64.b64encode(b"another key").decode())
    with pytest.raises(ReportedError) as refusal:
        place("x", Role.DATASET).files()
    assert refusal.value.message == (
        f"the dataset {place('x').uri} refuses access: name a Secret with AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN, or use a "
        "workload identity, and check its permissions"
    )
