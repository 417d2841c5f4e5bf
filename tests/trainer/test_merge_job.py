"""A job that merges adapters: combined without a GPU, measured beside the base model, published as what was trained is."""

import gc
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from finetune_contract import CombineConfig, Evaluation, ExportConfig, Metric, RunConfig, WeightedAdapter
from finetune_contract.data import Location
from finetune_contract.served import Load
from finetune_operator.api.published import ArtifactStatus, ExportStatus
from finetune_operator.cli.serving_objects import Wishes, serving_objects
from finetune_operator.manifests.serving_facts import serving_facts
from finetune_operator.planning.report import pool_nodes
from finetune_trainer.exporting.export import export, make_adapter
from transformers import PreTrainedModel

from tests.trainer.running import IN_PROCESS, local_node
from tests.trainer.test_combining import adapter, updates
from tests.trainer.tiny import a_run, conversations, tiny_model
from tests.unit.lifecycle.lifecycle_builders import a_job, a_pool, pinned_status

pytestmark = [*IN_PROCESS, pytest.mark.usefixtures("local_files")]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("base"))


def merging(folder: Path, base: Path, *adapters: tuple[Path, float], **parts: Any) -> RunConfig:
    """A run that merges adapters."""
    values: dict[str, Any] = {"method": "average", "rank": 0, "density": 0.5, "seed": 42}
    given = tuple(WeightedAdapter(location=Location(uri=f"file://{path}"), weight=weight) for path, weight in adapters)
    data = conversations(folder / "rows.jsonl", rows=60, seed=9)
    evaluation = Evaluation(
        fraction=0.2, max_examples=12, metrics=(Metric(name="exact", type="exactMatch"),), max_answer_tokens=8
    )
    run = a_run(folder, model=base, data=data, evaluation=evaluation, max_steps=1, answers_at_once=8)
    return replace(run, combine=CombineConfig(adapters=given, output=run.output, **{**values, **parts}))


def asked(run: RunConfig, *exports: str) -> ExportConfig:
    return ExportConfig(
        namespace=run.namespace, name=run.name, uid=run.uid, number=0, run_digest=run.run_digest, model=run.model,
        output=run.output, checkpoint=run.checkpoint.location, exports=exports, merge=run,
    )  # fmt: skip


def test_merged_adapters_are_measured_and_published(tmp_path: Path, base: Path) -> None:
    """The weighted mean of both updates within 1e-5, with the figures of both models, a card, a manifest and a merged model."""
    one, two = adapter(tmp_path / "one", base, 1), adapter(tmp_path / "two", base, 2)
    run = merging(tmp_path, base, (one, 300.0), (two, 100.0))

    with local_node(tmp_path / "workspace"):
        outcome = export(asked(run, "merged"), tmp_path / "workspace")

    found, first, second = (updates(base, folder) for folder in (tmp_path / "out/adapter", one, two))
    assert len(found) == 4
    assert all(float((found[name] - 0.75 * first[name] - 0.25 * second[name]).abs().max()) < 1e-5 for name in found)
    assert [artifact.kind for artifact in outcome.artifacts] == ["adapter", "merged"]
    assert outcome.evaluation is not None
    (exact,) = outcome.evaluation.metrics
    assert (exact.name, exact.examples, exact.base is None) == ("exact", 12, False)
    assert outcome.evaluation.base_loss is not None
    assert abs(outcome.evaluation.tuned_loss - outcome.evaluation.base_loss) > 0.01
    manifest = json.loads((tmp_path / "out/finetune-manifest.json").read_text())
    assert manifest["run"]["combine"]["method"] == "average"
    assert manifest["provenance"].keys() >= {f"adapter file://{one}", f"adapter file://{two}"}
    card = (tmp_path / "out/adapter/README.md").read_text()
    assert "| merged by | average |" in card
    assert f"| adapter of weight 300 | `file://{one}` (`sha256:" in card
    assert "learning rate" not in card
    assert ("spent" in card, manifest["spent"]) == (False, None)
    assert "LoRA rank 8, alpha 8" in card

    assert "## Serve in Kubernetes" not in card
    with local_node(tmp_path / "again"):
        again = export(asked(run, "merged"), tmp_path / "again")
    assert (again.artifacts, again.evaluation) == (outcome.artifacts, outcome.evaluation)


def test_what_serves_the_merged_adapter_is_published_beside_it(tmp_path: Path, base: Path) -> None:
    """Word for word what `finetune manifests` prints, on the pool that was chosen when the merge began."""
    one, two = adapter(tmp_path / "one", base, 1), adapter(tmp_path / "two", base, 2)
    run = merging(tmp_path, base, (one, 1.0), (two, 1.0))
    job = a_job(model={"source": run.model.location.uri}, output={"destination": run.output.uri})
    export_of_it = ExportStatus(
        memory_gib=4, ephemeral_gib=11, cpus=4, image="trainer:1", serving_pool=pool_nodes(a_pool())
    )
    planned = pinned_status(job, a_pool())
    status = planned.model_copy(update={"plan": None, "attempts": None, "export": export_of_it})
    with local_node(tmp_path / "workspace"):
        outcome = export(asked(replace(run, serving=serving_facts(status))), tmp_path / "workspace")

    artifacts = [ArtifactStatus.model_validate(asdict(one)) for one in outcome.artifacts]
    status = status.model_copy(update={"artifacts": artifacts})
    named = job.metadata.model_copy(update={"name": run.name, "namespace": run.namespace})
    done = job.model_copy(update={"status": status, "metadata": named})
    vllm = (tmp_path / "out/serving/vllm.yaml").read_text()
    assert vllm == serving_objects([done], "vllm", Wishes(load=Load()))
    assert outcome.artifacts[0].digest in vllm
    assert "kubectl apply -f serving/vllm.yaml" in (tmp_path / "out/adapter/README.md").read_text()


def test_where_answers_of_the_adapters_end_is_published(tmp_path: Path, base: Path) -> None:
    """Of rows that do not teach it: what the adapters' own generation_config.json says stays with the result, and servers are told."""
    one, two = adapter(tmp_path / "one", base, 1), adapter(tmp_path / "two", base, 2)
    (two / "generation_config.json").write_text('{"eos_token_id": [2, 4]}')
    with local_node(tmp_path / "workspace"):
        outcome = export(asked(merging(tmp_path, base, (one, 1.0), (two, 1.0))), tmp_path / "workspace")

    described = json.loads((tmp_path / "out/adapter/generation_config.json").read_text())
    assert described["eos_token_id"] == [2, 4]
    assert "vllm (--generation-config FOLDER)" in outcome.artifacts[0].servable


def test_the_memory_of_a_merge_is_free_when_the_forms_are_made(tmp_path: Path, base: Path) -> None:
    """The model in float32 is gone before the next one is loaded."""
    one, two = adapter(tmp_path / "one", base, 1), adapter(tmp_path / "two", base, 2)
    gc.collect()
    before = models()
    gc.disable()
    try:
        with local_node(tmp_path / "workspace"):
            make_adapter(merging(tmp_path, base, (one, 1.0), (two, 1.0)), tmp_path / "workspace")
    finally:
        gc.enable()

    assert models() == before


def models() -> int:
    """How many models this process holds."""
    return sum(issubclass(type(one), PreTrainedModel) for one in gc.get_objects())
