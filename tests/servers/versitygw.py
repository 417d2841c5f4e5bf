"""A real S3 server over a folder (versitygw) for tests."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from finetune_operator.local.binaries import VERSITYGW
from finetune_operator.local.ports import HOST, free_port
from finetune_operator.local.provide import provide

from tests.servers.child import served

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
    url = f"{'https' if certificate else 'http'}://{address}:{port}"
    with served(command, url, folder / "versitygw.log", seconds=30, env=env):
        yield S3Server(endpoint=url, folder=objects, bucket=bucket)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
