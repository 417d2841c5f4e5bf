"""Large files on their way to a bucket: resumed in parts, read back, whole or not at all. Against a real S3 server behind a front."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import botocore.session  # type: ignore[import-untyped]  # it has no annotations
import pytest
from finetune_contract import Location
from finetune_trainer.errors import StorageUnavailable
from finetune_trainer.storage import Role, Store, bucket_upload, open_location

from tests.cluster.client import eventually
from tests.servers.s3_front import Front, s3_front
from tests.servers.versitygw import S3Server

PART = 5 * 2**20
"""The smallest that S3 takes."""

UPLOAD = f"""
import sys
from pathlib import Path
from finetune_contract import Location
from finetune_trainer.storage import Role, bucket_upload, open_location
bucket_upload.PART_BYTES = {PART}
open_location(Location(uri=sys.argv[1], secret="s3"), Role.OUTPUT).upload(Path(sys.argv[2]))
"""


@pytest.fixture
def front(s3_server: S3Server) -> Iterator[Front]:
    with s3_front(s3_server.endpoint) as built:
        yield built


@pytest.fixture
def store(s3_server: S3Server, front: Front, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A folder of the test's own, by way of the front; parts are small."""
    monkeypatch.setattr(bucket_upload, "PART_BYTES", PART)
    (tmp_path / "secret").mkdir()
    for key, value in (s3_server.environment | {"AWS_ENDPOINT_URL": front.endpoint}).items():
        (tmp_path / "secret" / key).write_text(value)
    monkeypatch.setenv("FINETUNE_SECRETS", f"s3={tmp_path}/secret")
    uri = f"s3://{s3_server.bucket}/{tmp_path.name}"
    return open_location(Location(uri=uri, secret="s3"), Role.OUTPUT)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A folder with weights of five parts, the last one short."""
    (tmp_path / "made").mkdir()
    (tmp_path / "made/weights").write_bytes(os.urandom(4 * PART + 1000))
    return tmp_path / "made"


@pytest.fixture
def s3(s3_server: S3Server) -> Any:
    """The server itself, past the front."""
    return botocore.session.get_session().create_client(
        "s3", endpoint_url=s3_server.endpoint, region_name=s3_server.region,
        aws_access_key_id=s3_server.access_key, aws_secret_access_key=s3_server.secret_key,
    )  # fmt: skip


def key_of(store: Store) -> dict[str, str]:
    """Bucket and key of the weights."""
    bucket, _, prefix = store.uri.removeprefix("s3://").partition("/")
    return {"Bucket": bucket, "Key": f"{prefix}/weights"}


def in_progress(s3: Any, store: Store) -> list[str]:
    """The ids of the uploads in progress of the weights."""
    place = key_of(store)
    found = s3.list_multipart_uploads(Bucket=place["Bucket"], Prefix=place["Key"]).get("Uploads", ())
    return [item["UploadId"] for item in found]


def arrived(s3: Any, store: Store) -> list[int]:
    """The numbers of the parts at the server."""
    return [
        part["PartNumber"]
        for upload in in_progress(s3, store)
        for part in s3.list_parts(**key_of(store), UploadId=upload).get("Parts", ())
    ]


def begun(s3: Any, store: Store, *parts: bytes) -> str:
    """Begin an upload of the weights and send parts of it."""
    upload: str = s3.create_multipart_upload(**key_of(store))["UploadId"]
    for number, body in enumerate(parts, 1):
        s3.upload_part(**key_of(store), UploadId=upload, PartNumber=number, Body=body)
    return upload


def test_an_upload_that_was_killed_goes_on_in_the_next_process(store: Store, made: Path, front: Front, s3: Any) -> None:
    """Two parts have arrived when the process is killed. Nothing is visible; the next one sends the other three."""
    front.admit_parts = 2
    killed = subprocess.Popen([sys.executable, "-c", UPLOAD, store.uri, str(made)])
    eventually(lambda: len(arrived(s3, store)) == 2, "two parts arrive", seconds=120)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    before, visible = arrived(s3, store), store.files()
    front.admit_parts, front.parts = float("inf"), []

    subprocess.run([sys.executable, "-c", UPLOAD, store.uri, str(made)], check=True)

    assert (visible, sorted([*before, *front.parts])) == ((), [1, 2, 3, 4, 5])
    assert store.read_bytes("weights") == (made / "weights").read_bytes()
    assert in_progress(s3, store) == []


def test_a_part_that_differs_is_sent_again(store: Store, made: Path, front: Front, s3: Any) -> None:
    """Of an upload in progress with parts 1 to 3, of which the second has other bytes."""
    content = (made / "weights").read_bytes()
    begun(s3, store, content[:PART], os.urandom(PART), content[2 * PART : 3 * PART])

    store.upload(made)

    assert sorted(front.parts) == [2, 4, 5]
    assert store.read_bytes("weights") == content
    assert in_progress(s3, store) == []


def test_uploads_in_progress_that_do_not_fit_are_aborted(store: Store, made: Path, front: Front, s3: Any) -> None:
    """One of another file, one with less of this file, and one with more, which goes on."""
    content = (made / "weights").read_bytes()
    begun(s3, store, os.urandom(PART))
    begun(s3, store, content[:PART])
    begun(s3, store, content[:PART], content[PART : 2 * PART])
    begun(s3, store)

    store.upload(made)

    assert sorted(front.parts) == [3, 4, 5]
    assert store.read_bytes("weights") == content
    assert in_progress(s3, store) == []


def test_what_is_deleted_leaves_no_upload_in_progress(store: Store, s3: Any) -> None:
    """The parts of a checkpoint that was never finished cost money, and no listing shows them. A neighbour's stay."""
    begun(s3, store, os.urandom(1000))
    beside = f"{key_of(store)['Key']}-2"
    other = s3.create_multipart_upload(Bucket=key_of(store)["Bucket"], Key=beside)["UploadId"]

    store.delete("weights")

    assert in_progress(s3, store) == [other]


@pytest.mark.parametrize("refusal", [(403, b"AccessDenied"), (501, b"NotImplemented")])
def test_where_uploads_cannot_be_listed_they_begin_again(
    store: Store, made: Path, front: Front, s3: Any, refusal: tuple[int, bytes]
) -> None:
    """Keys without the permission, and stores without the request."""
    content = (made / "weights").read_bytes()
    left = begun(s3, store, content[:PART])
    front.refuse_lists = refusal

    store.upload(made)

    assert sorted(front.parts) == [1, 2, 3, 4, 5]
    assert store.read_bytes("weights") == content
    assert in_progress(s3, store) == [left]


@pytest.mark.parametrize("size", [1000, PART + 1])
def test_an_object_that_is_damaged_is_noticed(store: Store, made: Path, front: Front, s3: Any, size: int) -> None:
    """Sent in one request or in parts. The next try sends all of it again."""
    (made / "weights").write_bytes(os.urandom(size))
    front.damage_reads = True
    with pytest.raises(StorageUnavailable) as refusal:
        store.upload(made)
    assert refusal.value.message == (
        f"weights at the output {store.uri} is not what was uploaded: the upload is retried; if this happens again, "
        "use another destination"
    )
    front.damage_reads, front.parts = False, []

    store.upload(made)

    assert sorted(front.parts) == ([1, 2] if size > PART else [])
    assert store.read_bytes("weights") == (made / "weights").read_bytes()
    assert in_progress(s3, store) == []


def test_an_upload_that_the_store_drops_is_said(
    store: Store, made: Path, front: Front, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as by a lifecycle rule, while parts are under way: the bucket is there, so it is not called missing."""
    monkeypatch.setattr(bucket_upload, "PART_BYTES", 1000)  # the server reads small parts before it refuses them
    (made / "weights").write_bytes(os.urandom(2500))
    front.admit_parts = 0

    def drop() -> None:
        (upload,) = eventually(lambda: in_progress(s3, store), "the upload begins")
        s3.abort_multipart_upload(**key_of(store), UploadId=upload)
        front.let_go()

    with ThreadPoolExecutor(1) as beside:
        dropped = beside.submit(drop)
        with pytest.raises(StorageUnavailable) as refusal:
            store.upload(made)
        dropped.result()

    assert refusal.value.message == (
        f"the output {store.uri} dropped an upload before it was complete: the upload is retried"
    )


def test_files_of_any_size_fit_into_one_upload() -> None:
    """S3 takes 10,000 parts: those of a larger file are larger."""
    parts = bucket_upload.planned(10_000 * bucket_upload.PART_BYTES + 1)

    assert (len(parts), parts[0].size_bytes, parts[-1].start + parts[-1].size_bytes) == (
        10_000, bucket_upload.PART_BYTES + 1, 10_000 * bucket_upload.PART_BYTES + 1,
    )  # fmt: skip
