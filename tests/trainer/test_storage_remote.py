"""Buckets and hubs as storage, on a real S3 server and on a hub that speaks the HTTP API."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
import pytest
from finetune_contract import Location, Model
from finetune_trainer.errors import StorageUnavailable, UserError
from finetune_trainer.storage import Role, fetch_model, open_location
from finetune_trainer.storage.headers import Tensor, read_headers
from safetensors.numpy import save_file

from tests.servers.hub import TOKEN, serving
from tests.trainer.store_rules import assert_claimed_once


@pytest.fixture
def secrets(tmp_path, monkeypatch):
    """Mounts Secrets: secrets(name, **keys)."""
    mounted: dict[str, str] = {}

    def mount(name: str, **keys: str) -> None:
        folder = tmp_path / "secrets" / name
        folder.mkdir(parents=True)
        for key, value in keys.items():
            (folder / key).write_text(value + "\n")
        mounted[name] = str(folder)
        monkeypatch.setenv("FINETUNE_SECRETS", ":".join(f"{key}={value}" for key, value in mounted.items()))

    return mount


@pytest.fixture
def bucket(s3_server, secrets, request):
    """Opens a folder of its own in the bucket."""
    secrets("s3", **s3_server.environment)

    def opened(path: str = "run", role: Role = Role.OUTPUT):
        uri = f"s3://{s3_server.bucket}/{request.node.name[:40]}/{path}"
        return open_location(Location(uri=uri, secret="s3"), role)

    return opened


@pytest.fixture
def hub(monkeypatch):
    """An empty hub; HF_ENDPOINT names it, and large files go the LFS way."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with serving() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        yield server


def test_a_bucket_keeps_files(bucket, tmp_path):
    """The whole life of an artifact in S3."""
    made = tmp_path / "made"
    (made / "deep").mkdir(parents=True)
    (made / "deep" / "a.json").write_text("{}")
    (made / "COMPLETE").write_text("")
    store = bucket()

    store.write_text("keep.txt", "kept")
    store.upload(made, "adapter")
    folder = store.fetch(tmp_path / "fetched", ["adapter/deep/a.json"])

    assert [(file.path, file.size_bytes) for file in store.files()] == [
        ("adapter/COMPLETE", 0),
        ("adapter/deep/a.json", 2),
        ("keep.txt", 4),
    ]
    assert [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()] == [
        "adapter/deep/a.json"
    ]
    assert (
        store.read_bytes("adapter/deep/a.json", 1), store.read_text("adapter/deep/a.json"), store.read_text("nothing")
    ) == (b"{", "{}", None)  # fmt: skip
    store.delete("adapter")
    store.delete("nothing")
    assert [file.path for file in store.files()] == ["keep.txt"]
    assert (store.exists("keep.txt"), store.exists("adapter"), store.local_folder()) == (True, False, None)


def test_an_object_is_created_once_and_replaced_only_when_unchanged(bucket):
    """If-None-Match and If-Match, on a real server."""
    assert_claimed_once(bucket())


def test_single_objects_and_globs_are_data(bucket):
    """A data set may be one object; it can be opened and read in ranges."""
    bucket("rows").write_text("a.jsonl", "{}\n{}\n")
    bucket("rows").write_text("b.csv", "x")
    single, several = bucket("rows/a.jsonl", Role.DATASET), bucket("rows/*.jsonl", Role.DATASET)

    assert ([f.path for f in single.files()], [f.path for f in several.files()]) == (["a.jsonl"], ["a.jsonl"])
    with single.open("a.jsonl") as opened:
        assert opened.readlines() == [b"{}\n", b"{}\n"]
    assert several.read_bytes("a.jsonl") == b"{}\n{}\n"


def refusal_of(location: Location, role: Role) -> tuple[str, str]:
    with pytest.raises((UserError, StorageUnavailable)) as refusal:
        open_location(location, role).files()
    return refusal.value.reason, refusal.value.message


def test_refusals_of_a_bucket_say_what_to_do(s3_server, secrets):
    """Wrong key, missing bucket, no server: three reasons, and no secret in any of them."""
    secrets("right", **s3_server.environment)
    secrets("wrong", **s3_server.environment | {"AWS_SECRET_ACCESS_KEY": "not-the-key-at-all"})
    secrets("nowhere", **s3_server.environment | {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"})
    uri = f"s3://{s3_server.bucket}/rows"

    assert (
        "DatasetUnauthorized",
        f"the dataset {uri} refuses access (SignatureDoesNotMatch): check the keys in its credentials Secret and their "
        "permissions",
    ) == refusal_of(Location(uri=uri, secret="wrong"), Role.DATASET)
    assert refusal_of(Location(uri="s3://missing-bucket/m", secret="right"), Role.MODEL) == (
        "ModelNotFound",
        "the bucket missing-bucket of the model s3://missing-bucket/m does not exist: correct spec.model.source or "
        "spec.model.revision",
    )
    assert (
        "StorageUnavailable",
        f"the output {uri} does not answer (EndpointConnectionError): check AWS_ENDPOINT_URL, or wait",
    ) == refusal_of(Location(uri=uri, secret="nowhere"), Role.OUTPUT)


def test_a_model_comes_from_the_hub_at_one_commit(hub, secrets, tmp_path):
    """Only weights, configuration and tokenizer are downloaded; pickles beside them never are."""
    secrets("hf", HF_TOKEN=TOKEN)
    commit = hub.add(
        "org/base",
        {
            "config.json": "{}",
            "model.safetensors": b"w",
            "pytorch_model.bin": b"pickle",
            "tokenizer.json": "{}",
            "x/y.json": "{}",
        },
        private=True,
    )
    model = Model(location=Location(uri="hf://org/base", secret="hf"))

    folder = fetch_model(model, tmp_path / "model")

    assert {"config.json", "model.safetensors", "tokenizer.json"} == {
        file.name for file in folder.iterdir() if file.is_file()
    }
    assert commit == open_location(model.location, Role.MODEL).revision
    assert not [path for _, path in hub.requests if "pytorch_model.bin" in path]


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # huggingface_hub's own upload call does it
def test_a_hub_repository_is_created_private_and_written_by_commits(hub, secrets, tmp_path):
    """Small files are committed, large ones go through LFS, and a commit in between is noticed."""
    secrets("hf", HF_TOKEN=TOKEN)
    made = tmp_path / "made"
    made.mkdir()
    (made / "adapter_model.safetensors").write_bytes(b"weights")
    (made / "README.md").write_text("---\nlicense: mit\n---\n")
    store = open_location(Location(uri="hf://org/new", secret="hf"), Role.OUTPUT)

    assert store.read_text("claim") is None
    assert (store.create_text("claim", "first"), store.create_text("claim", "second")) == (True, False)
    assert (store.replace_text("claim", "x", "third"), store.replace_text("claim", "first", "third")) == (False, True)
    store.upload(made, "adapter")

    repository = hub.repository("org/new")
    assert repository.files == {
        ".gitattributes": b"", "claim": b"third", "adapter/adapter_model.safetensors": b"weights",
        "adapter/README.md": b"---\nlicense: mit\n---\n",
    }  # fmt: skip
    assert repository.private
    store.delete("adapter")
    assert [file.path for file in store.files()] == [".gitattributes", "claim"]


def test_refusals_of_a_hub_say_what_to_do(hub, secrets):
    """Gated with and without a token, private, missing, wrong revision, wrong token, no server."""
    secrets("hf", HF_TOKEN=TOKEN)
    secrets("old", HF_TOKEN="hf_expired00000000000000000000000000")
    secrets("down", HF_TOKEN=TOKEN, HF_ENDPOINT="http://127.0.0.1:9")
    hub.add("org/gated", {"config.json": "{}"}, gated=True)
    hub.add("org/private", {"config.json": "{}"}, private=True)
    remedy = f"accept its terms at {hub.endpoint}/org/gated with the account that owns the token"

    def refused(name: str, secret: str = "", role: Role = Role.MODEL) -> tuple[str, str]:
        return refusal_of(Location(uri=f"hf://org/{name}", secret=secret), role)

    assert (
        "ModelUnauthorized",
        f"the model hf://org/gated is gated and anonymous access has no access: {remedy}",
    ) == refused("gated")
    assert (
        "ModelUnauthorized",
        f"the model hf://org/gated is gated and the token in Secret hf has no access: {remedy}",
    ) == refused("gated", "hf")
    missing = "does not exist: correct spec.model.source or spec.model.revision"
    private = ", or is private: if so, name a Secret with HF_TOKEN as its credentials"
    assert ("ModelNotFound", f"the model hf://org/private {missing}{private}") == refused("private")
    assert ("ModelNotFound", f"the model hf://org/none {missing}") == refused("none", "hf")
    assert refused("none", "hf", Role.DATASET) == (
        "DatasetNotFound",
        "the dataset hf://org/none does not exist: correct source or revision in spec.datasets",
    )
    assert refused("private", "old") == (
        "ModelUnauthorized",
        "the hub refuses the token in Secret old for the model hf://org/private (401): check HF_TOKEN in the "
        "credentials Secret: it may have expired or lack permission",
    )
    assert refused("private", "down") == (
        "StorageUnavailable",
        "the hub at http://127.0.0.1:9 does not answer for the model hf://org/private (ConnectError)",
    )


def test_a_revision_that_is_not_there_is_said(hub):
    """The message names the revision."""
    hub.add("org/base", {"config.json": "{}"})

    with pytest.raises(UserError, match="the revision v9 of the model hf://org/base does not exist"):
        open_location(Location(uri="hf://org/base"), Role.MODEL, revision="v9").files()


class Keeper(BaseHTTPRequestHandler):
    """An S3 server whose keys may list and write, but not delete; it says so with status 200, as S3 does."""

    def do_GET(self) -> None:
        """List nothing."""
        self._say("<ListBucketResult><KeyCount>0</KeyCount><IsTruncated>false</IsTruncated></ListBucketResult>")

    def do_POST(self) -> None:
        """Refuse to delete."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self._say(
            "<DeleteResult><Error><Key>run/a</Key><Code>AccessDenied</Code><Message>no</Message></Error></DeleteResult>"
        )

    def _say(self, text: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


def test_a_bucket_that_refuses_to_delete_is_told(secrets):
    """Preflight's trial would pass, and no checkpoint would ever be pruned: hundreds of GiB each."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Keeper) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{server.server_port}"
        secrets("s3", AWS_ACCESS_KEY_ID="somebody", AWS_SECRET_ACCESS_KEY="their-key", AWS_ENDPOINT_URL=endpoint)
        store = open_location(Location(uri="s3://bucket/run", secret="s3"), Role.CHECKPOINT)
        with pytest.raises(UserError) as refusal:
            store.delete("a")
        server.shutdown()

    assert refusal.value.message == (
        "the checkpoint destination s3://bucket/run refuses access (AccessDenied): check the keys in its credentials Secret "
        "and their permissions"
    )


def test_headers_of_weights_are_read_from_their_first_kilobytes(bucket, hub, tmp_path):
    """Of a bucket and of a hub, also where a header is longer than the first read: a model is never fetched to be examined."""
    made = tmp_path / "made"
    made.mkdir()
    tensors = {f"model.layers.{number}.{'x' * 40}.weight": np.zeros((2, 3), dtype=np.float16) for number in range(400)}
    save_file(tensors | {"model.embed_tokens.weight": np.zeros((3 << 20, 1), dtype=np.float32)}, made / "a.safetensors")
    in_bucket = bucket()
    in_bucket.upload(made)
    content = (made / "a.safetensors").read_bytes()
    begin = 8 + int.from_bytes(content[:8], "little")
    hub.add("acme/tiny", {"a.safetensors": content})
    on_hub = open_location(Location(uri="hf://acme/tiny"), Role.MODEL)

    for store in (in_bucket, on_hub):
        found = read_headers(store, store.files())
        assert (len(found), found["model.embed_tokens.weight"]) == (
            401, Tensor(dtype="F32", shape=(3 << 20, 1), file="a.safetensors", begin=begin)
        )  # fmt: skip
        assert found[f"model.layers.7.{'x' * 40}.weight"].shape == (2, 3)
        assert store.read_bytes("a.safetensors", 5) == content[:5]
    assert hub.sent_bytes < 200_000  # of 12 MB
