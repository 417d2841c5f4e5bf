"""What is said of rows that are longer than the sequence: training.overLength: error, held-out rows, and runs that learn nothing."""

from finetune_trainer.data.measure import TokenStats
from finetune_trainer.data.request import DataRequest
from finetune_trainer.errors import UserError


def check_lengths(train: TokenStats, held_out: TokenStats, longest: int, request: DataRequest) -> None:
    """Raise UserError(DatasetInvalid) where training.overLength: error finds a row that is too long, trained or held out."""
    rows = train.truncated_rows + held_out.truncated_rows
    if request.over_length != "error" or not rows:
        return
    total = sum(part.rows + part.masked_rows for part in (train, held_out))
    most = max(train.longest, held_out.longest)
    held = f"{held_out.truncated_rows} of them held out, " if held_out.truncated_rows else ""
    raise UserError(
        "DatasetInvalid",
        f"{rows} of {total} rows are longer than {longest} tokens ({held}the longest has {most}): {_longer(most, request)}, "
        "or let training.overLength truncate or drop them",
    )


def held_out_warning(held_out: TokenStats, longest: int, request: DataRequest) -> tuple[str, ...]:
    """Warn where held-out rows are truncated, so that less is measured."""
    if not held_out.truncated_rows:
        return ()
    rows = "1 held-out row is" if held_out.truncated_rows == 1 else f"{held_out.truncated_rows} held-out rows are"
    return (
        f"{rows} longer than {longest} tokens (the longest has {held_out.longest}): what follows them is not measured. To measure "
        f"all of it, {_longer(held_out.longest, request)}",
    )


def nothing_learned(train: TokenStats, longest: int, request: DataRequest) -> str:
    """Say why rows hold nothing to train on: they are cut before the first answer, or none is learned."""
    if longest >= request.length_limit and (train.truncated_rows or train.longest >= longest):
        return "they are longer than that, all that the model reads, and cut before the first answer begins: shorten the prompts"
    if train.truncated_rows or train.longest >= longest:
        return f"they are longer than that, and cut before the first answer begins: raise training.sequenceLength (now {longest})"
    return "check chat.trainOn, spec.datasets[].columns and training.sequenceLength"


def _longer(most: int, request: DataRequest) -> str:
    if most > request.length_limit:
        return f"shorten them to {request.length_limit} tokens, all that the model reads"
    return f"raise training.sequenceLength to {most}"
