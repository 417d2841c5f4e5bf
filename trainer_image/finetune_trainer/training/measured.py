"""Base and tuned model side by side at the end of a run: the result, and the record of every answer. Called by train."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from finetune_contract import EvaluationResult, RunConfig, Sample
from transformers import PreTrainedTokenizerBase

from finetune_trainer.data import PreparedData
from finetune_trainer.evaluation.record import Asked, write_record
from finetune_trainer.evaluation.results import Judged, judged
from finetune_trainer.runtime import ranks
from finetune_trainer.runtime.progress import say
from finetune_trainer.training.evaluate import Answers
from finetune_trainer.training.judge import judged_elsewhere, pairs_of
from finetune_trainer.training.tasks import judged_tasks


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Both models on the same rows."""

    result: EvaluationResult | None
    """None where no rows were held out."""
    metrics: tuple[Judged, ...] = ()


def compared(
    run: RunConfig, base: Answers | None, tuned: Answers, data: PreparedData, tokenizer: PreTrainedTokenizerBase
) -> Compared:
    """Put base and tuned model side by side. Judges elsewhere are asked by rank 0."""
    if tuned.held_out is None:
        return Compared(result=None)
    before = base.held_out if base is not None else None
    metrics = judged(
        run.evaluation, data.questions, base=base.said if base is not None and base.said else None, tuned=tuned.said,
        seed=run.training.seed,
    )  # fmt: skip
    if base is not None and base.said and ranks.rank() == 0:
        metrics = (*metrics, *_judged(run, base, tuned, data, tokenizer))
    of_base = base.tasks if base is not None else ()
    metrics = (*metrics, *judged_tasks(run.evaluation, data.tasks, of_base, tuned.tasks, seed=run.training.seed))
    result = EvaluationResult(
        examples=data.evaluation_examples,
        base_loss=before.loss if before is not None else None,
        tuned_loss=tuned.held_out.loss,
        base_token_accuracy=before.token_accuracy if before is not None else None,
        tuned_token_accuracy=tuned.held_out.token_accuracy,
        base_forgetting_loss=base.general.loss if base is not None and base.general is not None else None,
        tuned_forgetting_loss=tuned.general.loss if tuned.general is not None else None,
        metrics=tuple(result for one in metrics for result in one.results),
        samples=_samples(run.evaluation.prompts, base.samples if base is not None else (), tuned.samples),
    )
    return Compared(result=result, metrics=metrics)


def _judged(
    run: RunConfig, base: Answers, tuned: Answers, data: PreparedData, tokenizer: PreTrainedTokenizerBase
) -> Iterator[Judged]:
    def decode(tokens: Sequence[int]) -> str:
        return str(tokenizer.decode(tokens, skip_special_tokens=True))

    for metric in run.evaluation.metrics:
        if metric.judge is not None:
            asked, pairs = pairs_of(metric, run.evaluation, data.questions, base.said, tuned.said, decode)
            found = judged_elsewhere(metric, asked, pairs, seed=run.training.seed, say=say)
            if found is not None:
                yield found


def _samples(prompts: Sequence[str], base: Sequence[str], tuned: Sequence[str]) -> tuple[Sample, ...]:
    pairs = zip(prompts, base or [""] * len(tuned), tuned, strict=False)
    return tuple(Sample(prompt=prompt, base=before, tuned=after) for prompt, before, after in pairs)


def record(
    folder: Path, found: Compared, base: Answers | None, tuned: Answers, *, data: PreparedData,
    tokenizer: PreTrainedTokenizerBase,
) -> None:  # fmt: skip
    """Write every answer with its scores; nothing without metrics."""
    if found.metrics:
        said = base.said if base is not None and base.said else None
        asked = Asked(questions=data.questions, base=said, tuned=tuned.said, decode=tokenizer.decode)
        write_record(folder, asked, found.metrics)


def final_figures(found: Compared) -> dict[str, float]:
    """Return what trackers show of both models in the end."""
    if found.result is None:
        return {}
    losses = {"eval_loss": found.result.tuned_loss, "base_eval_loss": found.result.base_loss}
    metrics = {f"eval_{one.name}": one.tuned[0] for one in found.result.metrics}
    metrics |= {f"base_eval_{one.name}": one.base[0] for one in found.result.metrics if one.base is not None}
    return {name: value for name, value in (losses | metrics).items() if value is not None}
