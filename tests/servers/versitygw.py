"""A real S3 server over a folder (versitygw) for tests."""

import contextlib
import os
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from finetune_operator.local.binaries import VERSITYGW
from finetune_operator.local.ports import HOST, free_port
from finetune_operator.local.provide import provide

ACCESS_KEY = "finetune"
SECRET_KEY = "finetune-secret"  # a throw-away server on the loopback
REGION = "us-east-1"


@dataclass(frozen=True)
class S3Server:
    """Where the server is and how to get in."""

    endpoint: str
    folder: Path
    """Objects are files in here: BUCKET/KEY."""
    bucket: str
    access_key: str = ACCESS_KEY
    secret_key: str = SECRET_KEY
    region: str = REGION

    @property
    def environment(self) -> dict[str, str]:
        """The keys of a credentials Secret."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": self.region,
            "AWS_ENDPOINT_URL": self.endpoint,
        }

    def make_bucket(self, name: str) -> str:
        """Make a bucket and return its name: in this server a folder is a bucket."""
        (self.folder / name).mkdir(exist_ok=True)
        return name

    def read(self, key: str, *, bucket: str | None = None) -> bytes:
        """Return the bytes of an object."""
        return (self.folder / (bucket or self.bucket) / key).read_bytes()


@contextlib.contextmanager
def s3_server(
    folder: Path,
    *,
    bucket: str = "models",
    read_only: bool = False,
    address: str = HOST,
    certificate: tuple[Path, Path] | None = None,
) -> Iterator[S3Server]:
    """Serve a folder at an address of this machine until the end of the block; with certificate and key by TLS."""
    objects = folder / "objects"
    (objects / bucket).mkdir(parents=True, exist_ok=True)
    port = free_port(set())
    command = [
        str(provide([VERSITYGW], say=print)["versitygw"]),
        f"--port={address}:{port}",
        f"--region={REGION}",
        "--quiet",
        *(["--readonly"] if read_only else []),
        *([f"--cert={certificate[0]}", f"--key={certificate[1]}"] if certificate else []),
        "posix",
        # metadata in files: not every folder of a test machine has extended attributes
        f"--sidecar={_made(folder / 'metadata')}",
        str(objects),
    ]
    env = {**os.environ, "ROOT_ACCESS_KEY_ID": ACCESS_KEY, "ROOT_SECRET_ACCESS_KEY": SECRET_KEY}
    with (folder / "versitygw.log").open("ab") as log:
        child = subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)
    url = f"{'https' if certificate else 'http'}://{address}:{port}"
    try:
        _await(child, url, folder / "versitygw.log")
        yield S3Server(endpoint=url, folder=objects, bucket=bucket)
    finally:
        child.terminate()
        child.wait(timeout=20)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _await(child: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline = time.monotonic() + 30
    while not _speaks_http(url):
        assert child.poll() is None, f"versitygw ended with {child.returncode}: {log.read_text()[-500:]}"
        assert time.monotonic() < deadline, f"versitygw does not answer at {url}"
        time.sleep(0.05)


def _speaks_http(url: str) -> bool:
    try:
        # whose certificate it is, its users look at
        urllib.request.urlopen(url, timeout=2, context=ssl._create_unverified_context()).close()
    except urllib.error.HTTPError as refusal:
        refusal.close()  # 403: it is there and wants a signature
        return True
    except OSError:
        return False
    return True
