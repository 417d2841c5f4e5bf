"""Can the chat template and the stop tokens of a model be used at all? Called by examine and preview, before any row is written."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from finetune_contract import Chat
from jinja2 import TemplateSyntaxError

from finetune_trainer.chat.stops import Tokenizer
from finetune_trainer.errors import UserError

EMBED_THEM = (
    "use the tokenizer that was saved with these weights, or give the model an embedding for each token (resize_token_embeddings) "
    "and save it again"
)
SHOWN_TOKENS = 3
ASKED = [{"role": "user", "content": "1 + 1?"}]
ANSWERED = [*ASKED, {"role": "assistant", "content": "2"}, {"role": "user", "content": "1 + 2?"}]


def check_template(tokenizer: Tokenizer, chat: Chat, uri: str) -> None:
    """Raise UserError(ModelInvalid) for a template that is not Jinja, or for several of which none is the default."""
    template = tokenizer.chat_template
    if chat.template == "chatml" or chat.template_source or not template:
        return
    if isinstance(template, dict) and "default" not in template:
        names = ", ".join(sorted(template))
        raise UserError(
            "ModelInvalid",
            f"{uri} has chat templates ({names}), but none is named default: rename one of them to default in "
            "tokenizer_config.json, "
            "or set chat.template to chatml",
        )
    if not isinstance(template, str | dict):
        raise UserError(
            "ModelInvalid",
            f"the chat template of {uri} is a {type(template).__name__}, not text: correct chat_template in "
            "tokenizer_config.json, or "
            "set chat.template to chatml",
        )
    try:
        tokenizer.apply_chat_template(ASKED, tokenize=False)
    except TemplateSyntaxError as error:
        raise UserError(
            "ModelInvalid",
            f"the chat template of {uri} is not valid Jinja: {error.message} (line {error.lineno}). Correct it, or set "
            "chat.template "
            "to chatml",
        ) from error
    except Exception:  # noqa: BLE001 - it may refuse this conversation; the rows themselves will say what it refuses
        return


def without_embedding(tokenizer: Tokenizer, rows: int, uri: str) -> str:
    """Say how many tokens a tokenizer has, for how many the model has embeddings, and which are the others."""
    others = range(rows, len(tokenizer))
    names = ", ".join(str(tokenizer.convert_ids_to_tokens(index)) for index in others[:SHOWN_TOKENS])
    more = f", ... and {len(others) - SHOWN_TOKENS} more" if len(others) > SHOWN_TOKENS else ""
    return f"the tokenizer of {uri} has {len(tokenizer):,} tokens, but the model has embeddings for {rows:,}, not for {names}{more}"


def check_stops(generation: dict[str, Any], vocabulary: int, tokenizer: Tokenizer, uri: str) -> None:
    """Raise UserError(ModelInvalid) for eos_token_id that is no token, or one without an embedding, or a list of none."""
    found = generation.get("eos_token_id")
    if found is None:
        return
    stops = found if isinstance(found, list) else [found]
    wrong = [
        stop for stop in stops if isinstance(stop, bool) or not isinstance(stop, int) or not 0 <= stop < vocabulary
    ]
    if not wrong and stops:
        return
    if wrong and isinstance(wrong[0], int) and vocabulary <= wrong[0] < len(tokenizer):
        told = without_embedding(tokenizer, vocabulary, uri)
        word = tokenizer.convert_ids_to_tokens(wrong[0])
        raise UserError(
            "ModelInvalid", f"{told}; generation_config.json stops at token {wrong[0]} ({word}): {EMBED_THEM}"
        )
    problem = f"{wrong[0]!r}, which is not one of its {vocabulary} token ids" if wrong else "an empty list"
    raise UserError(
        "ModelInvalid",
        f"generation_config.json of {uri} has eos_token_id {problem}: generation would never stop there. Set it to the id of the "
        "token that ends an answer",
    )


def other_templates(tokenizer: Tokenizer, adapters: Sequence[tuple[str, Path]]) -> tuple[str, ...]:
    """Warn of adapters that were saved with another chat template than the job's, which the tokenizer has by now."""
    if not tokenizer.chat_template:
        return ()
    mine = _rendered(tokenizer, None)
    return tuple(
        f"the adapter {uri} was saved with a chat template that writes conversations differently: it is asked in a way that it was not "
        "trained for. Set chat.template to the one of its training"
        for uri, folder in adapters
        if (theirs := _saved_template(folder)) and mine and _rendered(tokenizer, theirs) not in ("", mine)
    )


def _saved_template(folder: Path) -> str:
    """Return the chat template beside an adapter; empty where there is none, or several."""
    file, config = folder / "chat_template.jinja", folder / "tokenizer_config.json"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    found = json.loads(config.read_text(encoding="utf-8")).get("chat_template") if config.is_file() else None
    return found if isinstance(found, str) else ""


def _rendered(tokenizer: Tokenizer, template: str | None) -> str:
    try:
        return str(
            tokenizer.apply_chat_template(ANSWERED, chat_template=template, tokenize=False, add_generation_prompt=True)
        )
    except Exception:  # noqa: BLE001 - a template may do anything, and this is a comparison only
        return ""
