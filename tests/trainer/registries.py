"""What tests of registries start from: the registry, a front before it, a repository of the test's own, artifacts of other tools."""

import io
import json
import os
import re
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from finetune_contract import Location
from finetune_trainer.storage import Role, Store, open_location
from finetune_trainer.storage.registry import PART_BYTES

from tests.servers.oci_registry import OciRegistry, oci_registry
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
def made_in_parts(tmp_path: Path) -> Path:
    """An adapter whose weights are sent in parts."""
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    (folder / "README.md").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(os.urandom(PART_BYTES + 1000))
    return folder


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
