"""The Kubernetes objects that are published beside a result: those that `finetune manifests` prints for the job."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from finetune_contract import ExportConfig, RunConfig
from finetune_contract.served import Load
from finetune_operator.api.published import ArtifactStatus
from finetune_operator.api.status import FineTuneJob
from finetune_operator.cli.serving_objects import Wishes, serving_objects
from finetune_operator.errors import FinetuneError
from finetune_operator.manifests.serving_facts import serving_facts
from finetune_trainer.exporting.export import export
from peft import LoraConfig

from tests.trainer.running import IN_PROCESS
from tests.trainer.test_export import LORA, asked, published, sixteen_bit_base
from tests.unit.lifecycle.lifecycle_builders import a_job, a_pool, pinned_status

pytestmark = [*IN_PROCESS, pytest.mark.usefixtures("local_files")]


def the_job(run: RunConfig, folder: Path) -> FineTuneJob:
    """The job whose run it is, with what its manifest says was published."""
    job = a_job(model={"source": run.model.location.uri}, output={"destination": run.output.uri})
    manifest = json.loads((folder / "out/finetune-manifest.json").read_text())
    artifacts = [ArtifactStatus.model_validate(one) for one in manifest["artifacts"]]
    status = pinned_status(job, a_pool()).model_copy(update={"artifacts": artifacts})
    metadata = job.metadata.model_copy(update={"name": run.name, "namespace": run.namespace})
    return job.model_copy(update={"status": status, "metadata": metadata})


def printed(job: FineTuneJob) -> dict[str, str]:
    """What `finetune manifests` prints for each engine that serves the job's result, by file name."""
    found = {}
    for engine in ("vllm", "kserve", "llama-cpp"):
        try:
            found[f"{engine}.yaml"] = serving_objects([job], engine, Wishes(load=Load()))
        except FinetuneError:
            continue
    return found


def beside(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (folder / "out/serving").iterdir()}


@pytest.fixture
def run(local_files: None, tmp_path: Path) -> RunConfig:
    """An adapter, published by a run that was planned."""
    facts = serving_facts(pinned_status(a_job(), a_pool()))
    return published(tmp_path, sixteen_bit_base(tmp_path / "base"), LoraConfig(**LORA), serving=facts)


def exported(run: RunConfig, folder: Path, *forms: str) -> None:
    config: ExportConfig = replace(asked(run, *forms), serving=run.serving)
    export(config, folder / "workspace")


def test_an_adapter_is_published_with_what_serves_it(tmp_path: Path, run: RunConfig) -> None:
    """Word for word what is printed: digest, rank, requests. The manifest has their digests, the card names them."""
    found, manifest = beside(tmp_path), json.loads((tmp_path / "out/finetune-manifest.json").read_text())
    deployment, service = yaml.safe_load_all(found["vllm.yaml"])
    card = (tmp_path / "out/adapter/README.md").read_text()

    assert found == printed(the_job(run, tmp_path))
    assert list(found) == ["vllm.yaml"]
    fetched = [one["args"][2:6] for one in deployment["spec"]["template"]["spec"]["initContainers"]]
    assert fetched[0] == ["fetch", f"file://{tmp_path}/out/adapter", "/models/tiny", manifest["artifacts"][0]["digest"]]
    assert manifest["servingFiles"] == {name: hashlib.sha256(text.encode()).hexdigest() for name, text in found.items()}
    assert service["spec"]["selector"] == deployment["spec"]["template"]["metadata"]["labels"]
    assert card.partition("\n## Serve in Kubernetes\n\n")[2] == (
        "The folder `serving/` beside this one has manifests for each server that loads the result. They check its digest and\n"
        "are sized for 8 requests at a time of at most 4,096 tokens; `finetune manifests tiny` prints others.\n\n"
        "```\nkubectl apply -f serving/vllm.yaml\n```\n"
    )


def test_what_serves_a_merged_model_takes_the_place_of_what_served_the_adapter(tmp_path: Path, run: RunConfig) -> None:
    """With its own digest and without an adapter's options; what does not serve the result any more is removed."""
    before = beside(tmp_path)
    path = tmp_path / "out/finetune-manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(
        json.dumps(manifest | {"servingFiles": manifest["servingFiles"] | {"kserve.yaml": "of the adapter"}})
    )
    (tmp_path / "out/serving/kserve.yaml").write_text("of the adapter")
    exported(run, tmp_path, "merged")
    found = beside(tmp_path)

    assert found == printed(the_job(run, tmp_path))
    assert list(found) == ["vllm.yaml"]
    assert "--enable-lora" in before["vllm.yaml"]
    assert "--enable-lora" not in found["vllm.yaml"]
    assert json.loads(path.read_text())["servingFiles"] == {
        "vllm.yaml": hashlib.sha256(found["vllm.yaml"].encode()).hexdigest()
    }
    assert "kubectl apply -f serving/vllm.yaml" in (tmp_path / "out/merged/README.md").read_text()


def test_a_run_for_which_no_nodes_were_chosen_publishes_none(tmp_path: Path) -> None:
    """Nobody knows on which GPUs it fits; `finetune manifests` says so, too."""
    run = published(tmp_path, sixteen_bit_base(tmp_path / "base"), LoraConfig(**LORA))

    assert not (tmp_path / "out/serving").exists()
    assert json.loads((tmp_path / "out/finetune-manifest.json").read_text())["servingFiles"] == {}
    assert "Serve in Kubernetes" not in (tmp_path / "out/adapter/README.md").read_text()
    assert run.serving is None
