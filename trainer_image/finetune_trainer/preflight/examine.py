"""The order of things: cheap checks first, then the data, then the claim. What fails here never asks for a GPU."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from finetune_contract import Outcome, PreflightConfig, PreflightReport

from finetune_trainer.data.prepare import Prepared, prepare
from finetune_trainer.data.request import preflight_request
from finetune_trainer.data.summary import SUMMARY_FILE, summary
from finetune_trainer.data.tasks.prepared import check_fit
from finetune_trainer.errors import UserError
from finetune_trainer.preflight.adapter import Adapters, examine_adapter, examine_merged
from finetune_trainer.preflight.claim import Published, check_free, check_writable, claim_output
from finetune_trainer.preflight.model import ExaminedModel, check_complete, examine_model
from finetune_trainer.preflight.preview_text import preview_text
from finetune_trainer.preflight.template import check_template, other_templates
from finetune_trainer.preflight.tokens import check_tokens
from finetune_trainer.storage import Role, Store, open_location


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What preflight left at the checkpoint destination."""

    prepared_uri: str = ""
    preview_uri: str = ""


def examine(config: PreflightConfig, workspace: Path) -> Outcome:
    """Return the report. Raises ReportedError with the first thing that is wrong."""
    print(f"examining {config.model.location.uri}", flush=True)
    model = examine_model(config.model, workspace / "model")
    check_complete(model, config.model.location.uri)
    check_template(model.tokenizer, config.chat, config.model.location.uri)
    adapter = Adapters()
    if config.initial_adapter:
        adapter = examine_adapter(config.initial_adapter, config.model, model, workspace / "adapter")
    merged = examine_merged(config.merged_adapters, config.model, model, workspace / "merged")
    _check_length(config, model)
    output = open_location(config.output, Role.OUTPUT)
    checkpoint = checkpoint_store(config)
    check_free(output, config)
    if checkpoint:
        check_writable(checkpoint, config.uid)
    print(f"reading {', '.join(dataset.location.uri for dataset in config.datasets)}", flush=True)
    request = preflight_request(config, model.length_limit)
    prepared = prepare(request, model.tokenizer, workspace, sampling=True, say=lambda text: print(text, flush=True))
    check_fit(prepared.tasks, model.length_limit)
    doubts = (*model.warnings, *adapter.doubts, *check_tokens(prepared.folder, model, config.model.location.uri))
    doubts += (*merged.doubts, *other_templates(model.tokenizer, (*adapter.folders, *merged.folders)))
    digest = run_digest(config.spec_digest, model.revision, prepared.digest)
    published = claim_output(output, checkpoint, config, digest)
    left = Left() if published or not checkpoint else leave(prepared, model, config, checkpoint)
    report = replace(to_report(prepared, model, digest, left, doubts), adapter_bytes=merged.size_bytes)
    return _succeeded(report, published, config)


def run_digest(spec_digest: str, model_revision: str, dataset_digest: str) -> str:
    """Return the digest of a run: two jobs with the same one are the same run."""
    return "sha256:" + hashlib.sha256("\n".join((spec_digest, model_revision, dataset_digest)).encode()).hexdigest()


def checkpoint_store(config: PreflightConfig) -> Store | None:
    """Return the storage that preflight and trainer share; a hub and a registry are no place for scratch files."""
    if config.checkpoint.uri.startswith(("hf://", "oci://")):
        return None
    return open_location(config.checkpoint, Role.CHECKPOINT)


def leave(prepared: Prepared, model: ExaminedModel, config: PreflightConfig, checkpoint: Store) -> Left:
    """Put the rows and a preview where the trainer and people find them; named by digest, so that edits do not mix."""
    name = prepared.digest.removeprefix("sha256:")[:16]
    rows, preview = f"prepared-{name}", f"preview-{name}.txt"
    if not prepared.sampled and not checkpoint.exists(f"{rows}/{SUMMARY_FILE}"):
        checkpoint.upload(prepared.folder, rows)
        checkpoint.write_text(f"{rows}/{SUMMARY_FILE}", summary(prepared))  # last: rows without it are written again
    checkpoint.write_text(preview, preview_text(prepared, model.tokenizer, title=f"{config.namespace}/{config.name}"))
    prepared_uri = "" if prepared.sampled else f"{config.checkpoint.uri}/{rows}"
    return Left(prepared_uri=prepared_uri, preview_uri=f"{config.checkpoint.uri}/{preview}")


def to_report(
    prepared: Prepared, model: ExaminedModel, digest: str, left: Left, doubts: tuple[str, ...]
) -> PreflightReport:
    """Return the report that the plan rests on."""
    train = prepared.train

    def scaled(number: int) -> int:
        return round(number * prepared.scale)

    return PreflightReport(
        run_digest=digest,
        model_revision=model.revision,
        model_config=model.config,
        model_bytes=model.weight_bytes,
        model_dtype=model.dtype,
        dataset_digest=prepared.digest,
        examples=scaled(train.rows),
        evaluation_examples=prepared.evaluation_rows,
        generated_answers=prepared.generated_answers,
        label_answers=prepared.label_answers,
        task_tokens=sum(task.tokens for task in prepared.tasks),
        task_tokens_max=max((task.longest for task in prepared.tasks), default=0),
        tokens=scaled(train.tokens),
        trained_tokens=scaled(train.trained_tokens),
        tokens_p50=train.p50,
        tokens_p99=train.p99,
        tokens_max=train.longest,
        length_step=train.lengths.width,
        rows_by_length=tuple(scaled(rows) for rows in train.lengths.rows),
        truncated_rows=scaled(train.truncated_rows),
        dropped_rows=scaled(train.dropped_rows),
        masked_rows=scaled(train.masked_rows),
        duplicates=scaled(prepared.duplicates),
        sampled=prepared.sampled,
        sequence_length=prepared.sequence_length,
        packed_rows=scaled(train.packed_rows),
        prepared_uri=left.prepared_uri,
        preview_uri=left.preview_uri,
        warnings=(*doubts, *_sample_note(prepared), *prepared.warnings),
    )


def _sample_note(prepared: Prepared) -> tuple[str, ...]:
    if not prepared.sampled:
        return ()
    return (f"the data is large: all counts are estimates from a sample of {100 / prepared.scale:.1f} % of its bytes",)


def _check_length(config: PreflightConfig, model: ExaminedModel) -> None:
    if config.sequence_length > model.length_limit:
        raise UserError(
            "InvalidSpec",
            f"training.sequenceLength {config.sequence_length} exceeds the model's {model.length_limit} positions: "
            "lower it, or leave it out to cover 99 % of the rows",
        )


def _succeeded(report: PreflightReport, published: Published | None, config: PreflightConfig) -> Outcome:
    if published:
        return Outcome(
            outcome="Succeeded",
            reason="AlreadyPublished",
            message=f"this run is already complete at {config.output.uri}; nothing is trained again",
            preflight=report,
            artifacts=published.artifacts,
            evaluation=published.evaluation,
        )
    return Outcome(
        outcome="Succeeded",
        reason="Prepared",
        message=f"{report.examples} rows, {report.tokens} tokens, sequence length {report.sequence_length}",
        preflight=report,
    )
