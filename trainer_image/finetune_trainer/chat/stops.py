"""Which tokens end an answer: those at which the base model stops, and the one with which the chat template ends a turn.

All that generates, or tells a server where to stop, asks here. The second kind is what a base model lacks whose tokenizer has a
chat template (Qwen2.5's base models), and a copy without its generation_config.json.
"""

import json
from collections.abc import Iterable
from os.path import commonprefix
from pathlib import Path
from typing import Any

Tokenizer = Any
"""A transformers.PreTrainedTokenizerFast: importing the name would cost seconds, and its methods are untyped."""

GENERATION_CONFIG = "generation_config.json"
QUESTION, ANSWER, NEXT_QUESTION = "one?", "forty-two", "two?"
"""Words that no template writes by itself."""


def stop_token_ids(folder: Path) -> frozenset[int]:
    """Return the tokens at which a model in a folder stops: of generation_config.json, else config.json; empty where neither says."""
    for name in (GENERATION_CONFIG, "config.json"):
        file = folder / name
        found = json.loads(file.read_text()).get("eos_token_id") if file.is_file() else None
        if found is not None:
            return frozenset(found if isinstance(found, list) else [found])
    return frozenset()


def base_stops(tokenizer: Tokenizer) -> frozenset[int]:
    """Return the tokens at which the model of a tokenizer stops."""
    return stop_token_ids(Path(str(tokenizer.name_or_path))) or frozenset([tokenizer.eos_token_id])


def end_of_turn(tokenizer: Tokenizer, stops: frozenset[int]) -> int | None:
    """Return the token with which the chat template ends an answer where generation does not stop there; None where it does.

    None, too, where that is not one token: its end is what the template writes behind an answer, whatever comes next.
    """
    closing = commonprefix(_behind_an_answer(tokenizer))  # noqa: RUF071 - letters of texts, not parts of paths
    added = tokenizer.added_tokens_decoder.items()
    ids = {
        token.content: index for index, token in added if token.content.strip()
    }  # Gemma's has line breaks among them
    names = sorted(ids, key=len, reverse=True)
    if any(tokenizer.convert_ids_to_tokens(stop) in closing for stop in stops):
        return None
    found = None
    while name := next((name for name in names if closing.startswith(name)), ""):
        found, closing = ids[name], closing.removeprefix(name)
    return found


def next_turn(tokenizer: Tokenizer, stops: frozenset[int]) -> str:
    """Return the token that opens the next question where nothing else ends an answer, and generation stops there (GLM-4's <|user|>)."""
    last, earlier = _behind_an_answer(tokenizer)
    words = (str(tokenizer.convert_ids_to_tokens(stop)) for stop in sorted(stops))
    return "" if last.strip() else next((word for word in words if earlier.startswith(word)), "")


def _behind_an_answer(tokenizer: Tokenizer) -> tuple[str, str]:
    """Return what the template writes behind an answer at the end of a conversation, and before the next question; empty if it fails."""
    asked = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}]
    if not tokenizer.chat_template:
        return "", ""
    try:
        last, earlier = (
            tokenizer.apply_chat_template(messages, tokenize=False).rpartition(ANSWER)[2].lstrip()
            for messages in (asked, [*asked, {"role": "user", "content": NEXT_QUESTION}])
        )
    except Exception:  # noqa: BLE001 - a template may do anything; the rows themselves will say what it refuses
        return "", ""
    return last, earlier


def published_stops(folder: Path, base: Path | None) -> frozenset[int]:
    """Return the tokens at which a published result stops: its own, or those of the base model that an adapter belongs to."""
    return stop_token_ids(folder) or (stop_token_ids(base) if base else frozenset())


def write_stops(base: Path, folder: Path, stops: Iterable[int]) -> None:
    """Write the base model's generation_config.json into a folder, with these tokens as its ends."""
    file = base / GENERATION_CONFIG
    described = json.loads(file.read_text()) if file.is_file() else {}
    described["eos_token_id"] = sorted(stops)
    (folder / GENERATION_CONFIG).write_text(json.dumps(described, indent=2, sort_keys=True) + "\n")
