"""Our images, built from the Dockerfiles as a release does, on a base made of Debian packages instead of a pulled one.

Layers are kept by buildah: the first build takes minutes, a later one only what changed. Called by build and the fixtures.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_operator.local.binaries import Say

from tests.real_node.programs import kept, run

REPOSITORY = Path(__file__).parents[2]
SUITE = "bookworm"
BASE = f"localhost/finetune-base:{SUITE}"
"""Debian with Python 3.11, which is what the tests run with."""

PACKAGES = "ca-certificates,python3,python3-venv"
BUILD_SECONDS = 1800


@dataclass(frozen=True, kw_only=True)
class Image:
    """One of our images."""

    name: str
    dockerfile: str
    target: str
    requirements: str
    """File of pinned packages that are installed in it."""

    @property
    def local(self) -> str:
        """Its name in buildah's store."""
        return f"localhost/{self.name}:test"

    @property
    def note(self) -> Path:
        """Says of which recipe an image was built, pushed and unpacked."""
        return kept() / f"{self.name}.ready"

    def recipe(self) -> str:
        """Return the digest of what takes minutes to build: all but our own code, which is the last layer."""
        files = (REPOSITORY / self.dockerfile, REPOSITORY / "requirements" / self.requirements)
        return hashlib.sha256(b"\0".join([BASE.encode(), *(file.read_bytes() for file in files)])).hexdigest()

    def is_ready(self) -> bool:
        """Tell whether building it and bringing it to the nodes would take seconds."""
        known = self.note.exists() and self.note.read_text() == self.recipe()
        return known and bool(run("buildah", "images", "--quiet", self.local, check=False).strip())


OPERATOR = Image(
    name="finetune-operator", dockerfile="operator/Dockerfile", target="operator", requirements="operator.txt"
)
PREFLIGHT = Image(
    name="finetune-preflight", dockerfile="trainer_image/Dockerfile", target="preflight", requirements="preflight.txt"
)
TRAINER = Image(
    name="finetune-trainer", dockerfile="trainer_image/Dockerfile", target="trainer", requirements="trainer.txt"
)
IMAGES = (OPERATOR, PREFLIGHT, TRAINER)


def build_base(say: Say) -> None:
    """Make the base image, once."""
    if run("buildah", "images", "--quiet", "--filter", f"reference={BASE}", check=False).strip():
        return
    say(f"making {BASE} of Debian's packages; about a minute")
    with tempfile.TemporaryDirectory() as folder:
        root, archive = Path(folder, "root"), Path(folder, "base.tar")
        run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, root, seconds=BUILD_SECONDS)
        run("tar", "--numeric-owner", "-C", root, "-cf", archive, ".")
        container = run("buildah", "from", "scratch").strip()
        run("buildah", "add", "--quiet", container, archive, "/", seconds=BUILD_SECONDS)
        run("buildah", "config", "--cmd", "/bin/sh", "--env", "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/bin", container)
        run("buildah", "commit", "--quiet", "--rm", container, BASE, seconds=BUILD_SECONDS)


def build(image: Image, say: Say) -> None:
    """Build an image from its Dockerfile on the local base."""
    build_base(say)
    say(f"building {image.name}")
    _build(image, image.target, "--tag", image.local)


def rebuilt(image: Image) -> list[str]:
    """Build an image without any layer of before; returns the digests of its layers."""
    name = f"{image.local}-again"
    _build(image, image.target, "--no-cache", "--tag", name)
    try:
        layers: list[str] = json.loads(run("buildah", "inspect", "--type", "image", name))["OCIv1"]["rootfs"][
            "diff_ids"
        ]
        return layers
    finally:
        run("buildah", "rmi", name, check=False)


def configuration(image: Image) -> dict[str, Any]:
    """Return an image's OCI configuration: user, entry point, environment, labels."""
    found: dict[str, Any] = json.loads(run("buildah", "inspect", "--type", "image", image.local))["OCIv1"]["config"]
    return found


def packages(image: Image) -> list[dict[str, Any]]:
    """Return the components of an image's SBOM, built anew."""
    with tempfile.TemporaryDirectory() as folder:
        _build(image, f"{image.target}-sbom", "--output", folder)
        found: list[dict[str, Any]] = json.loads(Path(folder, "sbom.cdx.json").read_text())["components"]
    return found


def _build(image: Image, target: str, *result: str) -> None:
    with trusted_certificates() as mounts:
        run(
            *("buildah", "build", "--quiet", "--runtime", "runc", "--network", "host", "--layers", "--timestamp", "0"),
            *mounts,
            *("--build-arg", f"BASE={BASE}", "--target", target),
            *("--file", REPOSITORY / image.dockerfile, *result, REPOSITORY),
            seconds=BUILD_SECONDS,
        )


@contextmanager
def trusted_certificates() -> Iterator[list[str]]:
    """Let pip in the build trust what this machine trusts; mounted, so that nothing of it enters the image."""
    bundle = Path(os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt"))
    if not bundle.exists():
        yield []
        return
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder, "pip.conf")
        settings.write_text("[global]\ncert = /run/build-ca.crt\n")
        yield ["-v", f"{settings}:/etc/pip.conf:ro", "-v", f"{bundle}:/run/build-ca.crt:ro"]


def inside(image: Image, *command: str) -> str:
    """Run a command in a container of an image, without a network, and return what it printed."""
    container = run("buildah", "from", image.local).strip()
    try:
        return run("buildah", "run", "--runtime", "runc", "--network", "none", container, "--", *command)
    finally:
        run("buildah", "rm", container, check=False)
