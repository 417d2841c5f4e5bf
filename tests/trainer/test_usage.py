"""What a model card says to type is typed here, for every kind of destination."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from finetune_contract import Location, Model, Outcome, RunConfig
from finetune_operator.local.provide import provide
from finetune_trainer.publishing.usage import published_at, usage
from finetune_trainer.storage import Role, open_location

from tests.servers.hub import TOKEN, Hub, serving
from tests.servers.oci_registry import ORAS, docker_config, oci_registry
from tests.servers.versitygw import S3Server
from tests.trainer.running import IN_PROCESS, trained
from tests.trainer.tiny import a_run, conversations, tiny_model

pytestmark = IN_PROCESS


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunConfig, Outcome, Path]:
    """An adapter of two steps, its run, and the folder that it is in."""
    folder = tmp_path_factory.mktemp("made")
    run = a_run(
        folder, model=tiny_model(folder / "base"), data=conversations(folder / "train.jsonl", rows=60), max_steps=2,
        prompts=(),
    )  # fmt: skip
    return run, trained(run, folder), folder


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving() as server:
        yield server


def snippet(card: str) -> str:
    """Return the Python of a card."""
    (code,) = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    return str(code)


def typed(code: str, folder: Path, **environment: str) -> str:
    """Run Python in an empty folder, as a reader of the card would, and return what it prints."""
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True,
        env=os.environ | {"HF_HOME": str(folder / "hub")} | environment, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.removesuffix("\n")


def test_the_published_card_loads_its_adapter(made: tuple[RunConfig, Outcome, Path], tmp_path: Path) -> None:
    """From a folder: the card that lies beside the adapter, as it is."""
    _, _, folder = made
    code = snippet((folder / "out/adapter/README.md").read_text())

    assert f'folder = "{folder}/out/adapter"' in code
    assert typed(code, tmp_path / "here")


def test_a_claim_is_used_where_it_is_mounted(made: tuple[RunConfig, Outcome, Path], tmp_path: Path) -> None:
    """The path in the claim is said, and the mount is the reader's."""
    run, _, folder = made
    code = snippet(usage(replace(run, output=Location(uri="pvc://models/out")), "adapter", chat=True))

    assert 'folder = "/mnt/models/out/adapter"' in code
    assert typed(code.replace("/mnt/models", str(folder)), tmp_path / "here")


def test_a_bucket_is_fetched(made: tuple[RunConfig, Outcome, Path], tmp_path: Path, s3_server: S3Server) -> None:
    """Adapter and base model from S3, with the credentials in the environment."""
    run, _, folder = made
    bucket = s3_server.make_bucket("usage")
    for name in ("out", "base"):
        shutil.copytree(folder / name, s3_server.folder / bucket / name, ignore=shutil.ignore_patterns(".checkpoints"))
    there = replace(
        run, output=Location(uri=f"s3://{bucket}/out"), model=Model(location=Location(uri=f"s3://{bucket}/base"))
    )
    keys = s3_server.environment
    said = typed(snippet(usage(there, "adapter", chat=True)), tmp_path / "here", **keys)

    assert said
    assert sorted(path.name for path in (tmp_path / "here").iterdir()) == ["adapter", "base"]


def test_a_repository_of_the_hub_is_fetched(made: tuple[RunConfig, Outcome, Path], tmp_path: Path, hub: Hub) -> None:
    """The base at the revision that the adapter belongs to."""
    run, _, folder = made
    files = {path.name: path.read_bytes() for path in (folder / "base").iterdir()}
    revision = hub.add("org/base", files)
    hub.repository("org/base").commit({"config.json": b"{}"})
    hub.add("org/out", {f"adapter/{path.name}": path.read_bytes() for path in (folder / "out/adapter").iterdir()})
    base = Model(location=Location(uri="hf://org/base"), revision=revision)
    there = replace(run, output=Location(uri="hf://org/out"), model=base)
    environment = {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1"}

    assert typed(snippet(usage(there, "adapter", chat=True)), tmp_path / "here", **environment)


def test_an_artifact_of_a_registry_is_fetched(made: tuple[RunConfig, Outcome, Path], tmp_path: Path) -> None:
    """Adapter and base model, each by its tag, with the login of `docker login`."""
    run, _, folder = made
    with oci_registry(tmp_path / "oci") as registry:
        (tmp_path / "secret").mkdir()
        (tmp_path / "secret/.dockerconfigjson").write_text(docker_config(registry.host))
        (tmp_path / ".docker").mkdir()
        (tmp_path / ".docker/config.json").write_text(docker_config(registry.host))
        places = {"out": f"oci://{registry.host}/team/out:v1", "base": f"oci://{registry.host}/team/base:v1"}
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("FINETUNE_SECRETS", f"oci={tmp_path}/secret")
            for name, kind, source in (("out", "adapter", folder / "out/adapter"), ("base", "model", folder / "base")):
                open_location(Location(uri=places[name], secret="oci"), Role.OUTPUT).upload(source, kind)
        there = replace(run, output=Location(uri=places["out"]), model=Model(location=Location(uri=places["base"])))
        code = snippet(usage(there, "adapter", chat=True))

        program = provide([ORAS], say=print)[ORAS.name]
        path = f"{program.parent}:{os.environ['PATH']}"
        assert typed(code, tmp_path / "here", DOCKER_CONFIG=str(tmp_path / ".docker"), PATH=path)
    assert sorted(path.name for path in (tmp_path / "here").iterdir()) == ["adapter", "base"]
    assert published_at("oci://r/a:v1", "merged") == "oci://r/a:v1-merged"


def test_a_whole_model_is_loaded_without_its_base(made: tuple[RunConfig, Outcome, Path], tmp_path: Path) -> None:
    """A full fine-tune, of plain text: no adapter and no chat template."""
    run, _, folder = made
    (tmp_path / "model").symlink_to(folder / "base")
    code = snippet(usage(replace(run, output=Location(uri=f"file://{tmp_path}")), "model", chat=False))

    assert "peft" not in code
    assert typed(code, tmp_path / "here")
