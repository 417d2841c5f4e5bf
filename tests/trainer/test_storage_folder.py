"""Folders as storage: what a location may say, and that nothing outside of it is touched."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from finetune_contract import Location
from finetune_operator.lifecycle.ending_table import MENDABLE
from finetune_trainer.errors import StorageUnavailable, UserError
from finetune_trainer.storage import Role, StoredFile, open_location
from finetune_trainer.storage.folder import listed

from tests.trainer.store_rules import assert_claimed_once

CONFINED = [
    (
        "ftp://a/b",
        "'ftp://a/b': must start with hf://, s3://, gs://, az://, oci://, pvc://, configmap://, https:// or file://",
    ),
    (
        "pvc://data/a/../b",
        "'pvc://data/a/../b': the path 'a/../b' must not contain //, . or ..: write out the full path",
    ),
    ("pvc://data/./b", "'pvc://data/./b': the path './b' must not contain //, . or ..: write out the full path"),
    ("pvc://data//b", "'pvc://data//b': the path '/b' must not contain //, . or ..: write out the full path"),
    ("pvc://other/b", "'pvc://other/b': the PersistentVolumeClaim other is not mounted in this Pod (mounted: data)"),
    ("pvc://data", "'pvc://data': pvc:// needs two parts, such as pvc://NAME/PATH"),
    (
        "file://host/b",
        "'file://host/b': file:// needs an absolute path with three slashes, such as file:///data/train.jsonl",
    ),
    ("file:///etc", "'file:///etc': file:// works on the local cluster only: use pvc://, s3:// or hf://"),
    (
        "s3://user:hunter2@bucket/key",
        "'s3://***@bucket/key': may contain only ASCII letters, digits and . _ = + , ~ / - *; credentials belong in a Secret",
    ),
    ("hf://org/name/sub", "'hf://org/name/sub': hf:// takes ORG/NAME, such as hf://HuggingFaceTB/SmolLM2-135M"),
]


@pytest.fixture
def volume(tmp_path, monkeypatch):
    """A mounted claim `data`; file:// is not allowed."""
    folder = tmp_path / "claims" / "data"
    folder.mkdir(parents=True)
    monkeypatch.setenv("FINETUNE_CLAIMS", f"data={folder}")
    monkeypatch.delenv("FINETUNE_ALLOW_FILE", raising=False)
    return folder


def at_claim(path: str, role: Role = Role.OUTPUT):
    return open_location(Location(uri=f"pvc://data/{path}"), role)


@pytest.mark.parametrize(("uri", "message"), CONFINED, ids=[uri for uri, _ in CONFINED])
def test_a_location_names_nothing_outside_its_claim(volume, uri, message):
    """Every way out is refused in words, and a password in a URI is not repeated."""
    with pytest.raises(UserError) as refusal:
        open_location(Location(uri=uri), Role.MODEL)

    assert ("InvalidSpec", message) == (refusal.value.reason, refusal.value.message)


@pytest.mark.parametrize("path", ["../x", "a/../../x", "a//b", "/etc/passwd", "a\\b"])
def test_a_path_in_a_store_stays_in_it(volume, path):
    """What the trainer asks for is confined too, not only what the user writes."""
    with pytest.raises(UserError, match="must not contain"):
        at_claim("out").read_text(path)


def test_a_symbolic_link_out_of_the_volume_is_refused(volume, tmp_path):
    """A link would otherwise reach everything that the Pod (or the laptop) holds."""
    (tmp_path / "secret.txt").write_text("secret")
    (volume / "rows").mkdir()
    (volume / "rows" / "link.jsonl").symlink_to(tmp_path / "secret.txt")

    with pytest.raises(UserError, match="a symbolic link leads out of the volume") as refusal:
        at_claim("rows").files()
    assert refusal.value.reason == "InvalidSpec"
    with pytest.raises(UserError, match="a symbolic link leads out of the volume"):
        at_claim("rows").read_text("link.jsonl")


def test_links_inside_the_volume_work(volume):
    """A hub cache on a volume is full of them."""
    (volume / "blobs").mkdir()
    (volume / "blobs" / "b").write_text("x")
    (volume / "snapshot").mkdir()
    (volume / "snapshot" / "config.json").symlink_to(volume / "blobs" / "b")

    assert at_claim("snapshot").read_text("config.json") == "x"


def test_files_are_uploaded_listed_read_and_deleted(volume, tmp_path):
    """The whole life of an artifact; what else is in the folder stays."""
    made = tmp_path / "made"
    (made / "deep").mkdir(parents=True)
    (made / "deep" / "a.json").write_text("{}")
    store = at_claim("out/run")

    store.write_text("keep.txt", "kept")
    store.upload(made, "adapter")

    assert [file.path for file in store.files()] == ["adapter/deep/a.json", "keep.txt"]
    assert (store.exists("adapter"), store.exists("keep.txt"), store.exists("nothing")) == (True, True, False)
    assert (
        store.read_bytes("adapter/deep/a.json", 1), store.read_text("adapter/deep/a.json"), store.read_text("nothing")
    ) == (b"{", "{}", None)  # fmt: skip
    store.delete("adapter")
    store.delete("nothing")
    assert [path.name for path in (volume / "out" / "run").rglob("*")][:1] == ["keep.txt"]
    assert store.fetch(tmp_path / "unused") == volume / "out" / "run"


def test_a_file_is_created_once_and_replaced_only_when_unchanged(volume):
    """Two jobs that claim a destination cannot both believe that they have it."""
    store = at_claim("out")

    assert_claimed_once(store)
    assert [file.path for file in store.files()] == ["claim"]


def test_a_single_file_and_a_glob_list_what_they_name(volume):
    """The star does not cross a slash."""
    for name in ("a.jsonl", "b.csv", "deep/c.jsonl"):
        (volume / name).parent.mkdir(exist_ok=True)
        (volume / name).write_text("1")

    def listed(path: str) -> list[tuple[str, int]]:
        return [(file.path, file.size_bytes) for file in at_claim(path, Role.DATASET).files()]

    assert (
        listed("a.jsonl"),
        listed("deep/*.jsonl"),
        listed("x*"),
    ) == ([("a.jsonl", 1)], [("c.jsonl", 1)], [])


def test_a_destination_that_is_a_file_is_not_writable(volume, tmp_path):
    """The reason names the destination, not an errno."""
    (volume / "out").write_text("a file")

    with pytest.raises(UserError) as refusal:
        at_claim("out").write_text("claim", "x")

    assert refusal.value.reason == "OutputNotWritable"
    assert (
        refusal.value.message
        == "the output pvc://data/out is not a folder: create it or correct spec.output.destination"
    )


def test_a_volume_that_is_not_mounted_may_come_back(volume, monkeypatch):
    """Not the user's fault: the same Pod may work on another node."""
    monkeypatch.setenv("FINETUNE_CLAIMS", "data=/nonexistent/claims/data")

    with pytest.raises(
        StorageUnavailable, match="the volume of pvc://data/out is not mounted at /nonexistent/claims/data"
    ):
        at_claim("out")


def test_a_secret_without_a_known_key_is_refused(tmp_path, monkeypatch):
    """Secret volumes are optional: a misspelt name would otherwise look like anonymous access."""
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("FINETUNE_SECRETS", f"there={tmp_path / 'empty'}")

    for name in ("there", "missing"):
        with pytest.raises(
            UserError, match=f"the Secret {name} for s3://b/k does not exist in this namespace or has none"
        ) as refusal:
            open_location(Location(uri="s3://b/k", secret=name), Role.MODEL)
        assert refusal.value.reason in MENDABLE  # it may arrive later: the operator runs preflight again


def test_listing_tells_sizes_and_changes(volume):
    """A fingerprint differs after a change."""
    (volume / "m").mkdir()
    (volume / "m" / "a").write_text("abc")
    before = at_claim("m").files()
    assert [StoredFile(path="a", size_bytes=3, fingerprint=before[0].fingerprint)] == list(before)
    Path(volume / "m" / "a").write_text("abcd")
    assert before != at_claim("m").files()


def test_a_listing_leaves_out_what_goes_meanwhile(volume):
    """Rank 0 clears away what an earlier attempt left while the other ranks look for checkpoints."""
    for name in ("a", "b"):
        (volume / name).write_text(name)

    def shrinking() -> Iterator[Path]:
        yield volume / "a"
        (volume / "b").unlink()
        yield volume / "b"

    assert [file.path for file in listed(shrinking(), volume)] == ["a"]


def test_a_link_that_leads_nowhere_is_no_missing_file(volume):
    """Data must not shrink without a word."""
    (volume / "d").mkdir()
    (volume / "d" / "train.jsonl").symlink_to(volume / "gone.jsonl")

    with pytest.raises(UserError) as refused:
        at_claim("d", Role.DATASET).files()
    assert (refused.value.reason, refused.value.message) == (
        "DatasetNotFound",
        f"train.jsonl of pvc://data/d is a link to {volume / 'gone.jsonl'}, which does not exist there: copy the files themselves in "
        "place of the links, with cp -rL or rsync -L",
    )


def test_a_pod_that_tries_to_replace_in_vain_takes_nothing_from_the_one_that_did(volume, monkeypatch):
    """Process ids repeat, every Pod counts its own: what one puts aside must not be what the other puts aside."""
    winner, other = at_claim("out"), at_claim("out")
    winner.write_text("claim", "old")
    create = winner.create_text

    def then_the_other(path: str, text: str) -> bool:
        created = create(path, text)
        assert not other.replace_text("claim", "other", "others")
        return created

    monkeypatch.setattr(winner, "create_text", then_the_other)

    assert (winner.replace_text("claim", "old", "new"), winner.read_text("claim")) == (True, "new")


def test_two_pods_upload_the_same_file_at_once(volume, tmp_path, monkeypatch):
    """Preflight of an edited job beside that of the job before: each writes its own part and moves it into place."""
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "rows").write_text("rows")
    first, second, copy = at_claim("out"), at_claim("out"), shutil.copyfile

    def interrupted(source: Any, target: Any) -> None:
        copy(source, target)
        monkeypatch.setattr(shutil, "copyfile", copy)
        second.upload(tmp_path / "made", "x")

    monkeypatch.setattr(shutil, "copyfile", interrupted)
    first.upload(tmp_path / "made", "x")

    assert [(file.path, file.size_bytes) for file in first.files()] == [("x/rows", 4)]


def test_what_somebody_else_deletes_meanwhile_is_deleted(volume, monkeypatch):
    """Two attempts may clear away the same folder."""
    store, unlink = at_claim("out"), os.unlink
    for name in ("d/a", "d/b"):
        store.write_text(name, "x")

    def twice(*place: Any, **at: Any) -> None:
        unlink(*place, **at)
        unlink(*place, **at)

    with monkeypatch.context() as somebody:
        somebody.setattr(os, "unlink", twice)
        store.delete("d")

    assert store.files() == ()


def test_parts_of_a_killed_upload_are_removed_by_the_next(volume, tmp_path):
    """Not those of an upload that runs elsewhere. What fails on its way leaves nothing."""
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "rows").write_text("rows")
    for name in (".rows.killed.part", ".rows.running.part"):
        (volume / "x").mkdir(exist_ok=True)
        (volume / "x" / name).write_text("ro")
    os.utime(volume / "x" / ".rows.killed.part", (1, 1))

    at_claim("x").upload(tmp_path / "made")

    assert [file.path for file in at_claim("x").files()] == [".rows.running.part", "rows"]
