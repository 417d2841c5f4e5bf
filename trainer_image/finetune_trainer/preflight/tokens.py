"""Does the model have an embedding for every token that the rows hold? Called by examine and preview, after the rows are written."""

from pathlib import Path

from finetune_trainer.data.tokenised import read_batches
from finetune_trainer.errors import UserError
from finetune_trainer.preflight.model import ExaminedModel
from finetune_trainer.preflight.template import EMBED_THEM, without_embedding


def check_tokens(prepared: Path, model: ExaminedModel, uri: str) -> tuple[str, ...]:
    """Return a warning where the tokenizer has tokens that the model has no embedding for.

    Raises UserError(ModelInvalid) where rows, or their padding, hold one.
    """
    rows, padding = model.embedding_rows, model.tokenizer.pad_token_id
    if not rows or len(model.tokenizer) <= rows:
        return ()
    told = without_embedding(model.tokenizer, rows, uri)
    largest = max(int(ids.max()) for file in sorted(prepared.glob("*.arrow")) for _, ids, _ in read_batches(file))
    if max(largest, padding) < rows:
        return (f"{told}; no row uses the others, but a prompt that does will fail in the tuned model: {EMBED_THEM}",)
    token, used = (largest, "the rows use") if largest >= rows else (padding, "padding uses")
    raise UserError(
        "ModelInvalid", f"{told}; {used} token {token} ({model.tokenizer.convert_ids_to_tokens(token)}): {EMBED_THEM}"
    )
