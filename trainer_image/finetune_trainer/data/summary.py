"""The small file beside prepared rows: what a reader needs to know without reading them."""

import hashlib
import json
from dataclasses import asdict, dataclass

from finetune_trainer.chat import Turns
from finetune_trainer.data.prepare import Prepared

SUMMARY_FILE = "prepared.json"
"""Beside the rows: written last, so that rows without it are not used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a reader of prepared rows needs to know without reading them."""

    digest: str
    examples: int
    evaluation_examples: int
    tokens: int
    trained_tokens: int
    sequence_length: int
    template: str = ""
    """Digest of the chat template that wrote the rows."""
    learned_stops: tuple[int, ...] = ()
    """As in Prepared."""


def template_digest(turns: Turns) -> str:
    """Return the digest of the templates that a run writes conversations with."""
    return hashlib.sha256(f"{turns.template}\0{turns.tool_template}".encode()).hexdigest()


def summary(prepared: Prepared) -> str:
    """Return the file's text."""
    known = Summary(
        digest=prepared.digest,
        examples=prepared.train.rows,
        evaluation_examples=prepared.evaluation_rows,
        tokens=prepared.train.tokens,
        trained_tokens=prepared.train.trained_tokens,
        sequence_length=prepared.sequence_length,
        template=template_digest(prepared.turns),
        learned_stops=prepared.learned_stops,
    )
    return json.dumps(asdict(known))
