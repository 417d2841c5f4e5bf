"""The columns that a job names itself: each must exist, and may lie inside another one (`translation.en`, `answers.text.0`)."""

import re
from collections.abc import Iterable, Mapping

from finetune_contract import Dataset

from finetune_trainer.data.reading.nearest import did_you_mean, nearest
from finetune_trainer.errors import UserError

PLACEHOLDER = re.compile(r"\{([^{}\n]+)\}")
OF_ROWS = ("messages", "prompt", "completion", "text", "system")
"""The fields of datasets[].columns that name a column; the others name a key of a message."""

SHOWN = 12
"""So many columns a message lists."""


def named_columns(dataset: Dataset) -> dict[str, str]:
    """Return the columns that a job names, each with the field that names it first."""
    fields = {getattr(dataset.columns, role): f"columns.{role}" for role in OF_ROWS}
    joined = dict.fromkeys(PLACEHOLDER.findall(dataset.prompt_template), "promptTemplate")
    return {column: field for column, field in (joined | fields).items() if column}


def refuse_unknown(named: Mapping[str, str], record: Iterable[str], uri: str) -> None:
    """Raise UserError(DatasetInvalid) for a column that a job names and no row has, with the nearest one that exists."""
    columns = list(dict.fromkeys(map(str, record)))
    unknown = [(column, field) for column, field in named.items() if column not in columns]
    if not unknown:
        return
    told = "; ".join(f"{field} names {column}, which no row has" for column, field in unknown)
    meant = (nearest(column, [name for name in columns if name not in named]) for column, _ in unknown)
    more = f" and {len(columns) - SHOWN} more" if len(columns) > SHOWN else ""
    exist = f"{', '.join(columns[:SHOWN])}{more}" or "none"
    raise UserError("DatasetInvalid", f"{uri}: {told}. Its columns are {exist}{did_you_mean(meant)}")
