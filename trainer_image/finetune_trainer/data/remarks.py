"""What is said of all rows together once they are cut: why nothing is learned, or what was left out. Called by prepare."""

from collections.abc import Iterator

from finetune_trainer.data.left import LeftOut
from finetune_trainer.data.measure import TokenStats
from finetune_trainer.data.request import DataRequest
from finetune_trainer.data.selection import HELD_OUT_FLOOR, Selection
from finetune_trainer.data.too_long import Part


def nothing_learned(train: TokenStats, longest: int, request: DataRequest) -> str:
    """Say why rows hold nothing to train on: they are cut before the first answer, or none is learned."""
    if longest >= request.length_limit and train.longest >= longest:
        return "they are longer than that, all that the model reads, and cut before the first answer begins: shorten the prompts"
    if train.longest >= longest:
        return f"they are longer than that, and cut before the first answer begins: raise training.sequenceLength (now {longest})"
    return "check chat.trainOn, spec.datasets[].columns and training.sequenceLength"


def rows_warnings(request: DataRequest, selection: Selection, parts: tuple[Part, Part], left: LeftOut) -> Iterator[str]:
    """Yield what people should know of rows that are left out, repeated or too few."""
    train, held_out = parts[0].stats, parts[1].stats.rows
    if selection.leaked:
        where = "sources" if request.evaluation.further_sources else "source"
        yield f"{selection.leaked} training rows are also in the evaluation {where}: they are not trained"
    for dataset, times in zip(request.datasets, selection.repeated, strict=True):
        if times > 1.5:
            yield f"rows of {dataset.location.uri} are seen {times:.1f} times an epoch to reach its weight"
    unanswered = left.masked - sum(part.stats.lost_rows for part in parts)
    if unanswered > 0:
        rows = (
            "1 row is left out because it contains"
            if unanswered == 1
            else f"{unanswered} rows are left out because they contain"
        )
        yield f"{rows} nothing to train on"
    if not held_out and request.evaluation.fraction and not request.evaluation.source:
        yield f"no rows are held out of {train.rows}, too few to set some aside: base and tuned model are not compared"
    if 0 < held_out < HELD_OUT_FLOOR:
        rows = "1 row is" if held_out == 1 else f"{held_out} rows are"
        yield f"only {rows} held out: the evaluation is only a rough estimate"
