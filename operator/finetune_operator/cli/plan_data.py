"""What a plan knows of the data: counted on this machine, found by a preflight, or assumed, and said so. Called by plan and init."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_contract import GENERATING, LM_EVAL

from finetune_operator.api.evaluation_rules import name_of
from finetune_operator.api.plan import ModelArchitecture
from finetune_operator.api.preflight import PreflightStatus
from finetune_operator.api.spec import FineTuneJobSpec
from finetune_operator.cli.manifest_file import JobManifest
from finetune_operator.cli.plan_options import EXAMPLES, TOKENS_PER_EXAMPLE
from finetune_operator.errors import FinetuneError

LONG_ROW = 2.6
"""99 % of the rows of chat data are no longer than so many times the mean (lengths that spread log-normally)."""

PACKING_WASTE = 1.03
"""Best-fit packing leaves about 3 % of the rows empty."""

CONTINUED_LENGTH = 4096
CHARACTERS_PER_TOKEN = 4
"""Of English text with the vocabularies of today's models; other languages have fewer."""

LOCAL = "file://"


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    """What preflight would have found out."""

    examples: int
    tokens_per_example: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFacts:
    """The data of a plan, and where each figure comes from."""

    preflight: PreflightStatus
    known: tuple[str, ...] = ()
    """What was counted or found, for the page."""
    assumed: tuple[str, ...] = ()
    """What was not, with the option that replaces it."""


def data_facts(
    job: JobManifest,
    shape: ModelArchitecture,
    examples: int | None,
    tokens: int | None,
    pinned: tuple[str, PreflightStatus] | None,
) -> DataFacts:
    """Return what is known of the data: options win, then a preflight, then what lies on this machine, then assumptions."""
    if examples is None and tokens is None:
        if pinned is not None:
            return DataFacts(preflight=pinned[1], known=(f"model and data as {pinned[0]} found them",))
        if (counted := counted_here(job, shape)) is not None:
            return counted
    return assumed_facts(job.spec, shape, examples, tokens)


def assumed_facts(
    spec: FineTuneJobSpec, shape: ModelArchitecture, examples: int | None, tokens: int | None
) -> DataFacts:
    """Return the data as the options describe it; what they leave out is assumed."""
    rows = _examples(spec, EXAMPLES if examples is None else examples)
    data = Assumptions(examples=rows, tokens_per_example=TOKENS_PER_EXAMPLE if tokens is None else tokens)
    guessed = [
        *([f"{EXAMPLES:,} rows; pass --examples"] if examples is None and rows == EXAMPLES else []),
        *([f"{TOKENS_PER_EXAMPLE:,} tokens per row; pass --tokens-per-example"] if tokens is None else []),
        f"99 % of the rows have at most {LONG_ROW:g} times the average length; preflight counts them",
        *_uncounted(spec),
    ]
    return DataFacts(preflight=supposed_preflight(spec, shape, data), assumed=tuple(guessed))


def counted_here(job: JobManifest, shape: ModelArchitecture) -> DataFacts | None:
    """Return what the data is, read on this machine; None where it lies elsewhere or the trainer's libraries are missing.

    Raises FinetuneError with what preflight would say about data that cannot be trained.
    """
    if not all(dataset.source.startswith(LOCAL) for dataset in job.spec.datasets) or not _there(job.spec):
        return None
    from finetune_operator.cli.trainer_here import is_installed, look  # noqa: PLC0415  # plans without data need none of it

    if not is_installed():
        return None
    model_here = job.spec.model.source.startswith(LOCAL) and Path(job.spec.model.source.removeprefix(LOCAL)).is_dir()
    found = look(job, tokens=model_here)
    if error := found.error or next((one["error"] for one in found.datasets if one["error"]), ""):
        raise FinetuneError(error)
    if found.report is not None:
        from finetune_operator.lifecycle.results import preflight_status  # noqa: PLC0415

        return DataFacts(
            preflight=preflight_status(found.report, shape),
            known=("rows and tokens counted in the data on this machine",),
        )
    return estimated(job.spec, shape, found.datasets)


def estimated(spec: FineTuneJobSpec, shape: ModelArchitecture, datasets: Sequence[dict[str, Any]]) -> DataFacts:
    """Return the data by its rows and characters, without the model's tokenizer."""
    rows = sum(
        min(one["rows"], limit.max_examples or one["rows"]) for one, limit in zip(datasets, spec.datasets, strict=True)
    )
    total, everything = sum(one["characters"] for one in datasets), max(1, sum(one["rows"] for one in datasets))
    tokens = max(1, round(total / everything / CHARACTERS_PER_TOKEN))
    found = supposed_preflight(spec, shape, Assumptions(examples=max(1, rows), tokens_per_example=tokens))
    longest = max(tokens, math.ceil(max((one["longest"] for one in datasets), default=0) / CHARACTERS_PER_TOKEN))
    return DataFacts(
        preflight=found.model_copy(update={"tokens_max": longest}),
        known=(f"{everything:,} rows counted in the data on this machine",),
        assumed=(
            f"{tokens:,} tokens per row, at {CHARACTERS_PER_TOKEN} characters per token; preflight counts them, or pass "
            "--tokens-per-example",
            *_uncounted(spec),
        ),
    )


def _uncounted(spec: FineTuneJobSpec) -> list[str]:
    """Name the metrics whose documents only preflight reads."""
    names = [name_of(metric) for metric in spec.evaluation.metrics or () if metric.type == LM_EVAL]
    return [f"the time for {', '.join(names)} (lm-eval) is left out; preflight counts the documents"] if names else []


def _there(spec: FineTuneJobSpec) -> bool:
    return all(Path(one.source.removeprefix(LOCAL)).exists() or "*" in one.source for one in spec.datasets)


def _examples(spec: FineTuneJobSpec, examples: int) -> int:
    """A sample takes at most maxExamples of each dataset."""
    limits = [dataset.max_examples for dataset in spec.datasets if dataset.max_examples]
    return min(examples, sum(limits)) if len(limits) == len(spec.datasets) else examples


def supposed_preflight(spec: FineTuneJobSpec, shape: ModelArchitecture, data: Assumptions) -> PreflightStatus:
    """Return what preflight would report for so many rows of such a length."""
    longest = math.ceil(LONG_ROW * data.tokens_per_example)
    default = CONTINUED_LENGTH if spec.objective == "cpt" else math.ceil(longest / 64) * 64
    length = spec.training.sequence_length or min(default, shape.max_position_embeddings)
    share = math.floor(data.examples * float(spec.evaluation.fraction))
    held_out = spec.evaluation.max_examples if spec.evaluation.source else min(spec.evaluation.max_examples, share)
    rows = data.examples if spec.evaluation.source else max(1, data.examples - held_out)
    tokens = rows * min(data.tokens_per_example, length)
    return PreflightStatus(
        model_revision=spec.model.revision or "", model_bytes=2 * shape.num_parameters, dataset_digest="",
        examples=rows, evaluation_examples=held_out, **supposed_answers(spec, held_out), tokens=tokens, trained_tokens=tokens,
        tokens_p50=data.tokens_per_example, tokens_p99=min(longest, length), tokens_max=longest,
        truncated_rows=0, truncated_percent="0", dropped_rows=0, masked_rows=0, duplicates=0, sampled=True,
        sequence_length=length, packed_rows=math.ceil(tokens * PACKING_WASTE / length), architecture=shape,
    )  # fmt: skip


def supposed_answers(spec: FineTuneJobSpec, held_out: int) -> dict[str, int]:
    """Return what the metrics would ask; labels that are not listed are taken to be two."""
    metrics = spec.evaluation.metrics or []
    sources = {
        metric.source.model_dump_json() if metric.source else "" for metric in metrics if metric.type in GENERATING
    }
    labels = [metric for metric in metrics if metric.type == "label"]
    rows = {True: held_out, False: spec.evaluation.max_examples}
    return {
        "generated_answers": sum(rows[not source] for source in sources),
        "label_answers": sum(rows[metric.source is None] * len(metric.labels or "ab") for metric in labels),
    }
