"""The tokenizer of a model's folder, with the chat template that belongs to it. Called by preflight and the trainer; no torch."""

import json
from pathlib import Path
from typing import Any

from finetune_contract import Model, shorten
from transformers import AutoTokenizer

from finetune_trainer.errors import UserError
from finetune_trainer.storage.pages import BEGINNING_BYTES, page

PROCESSOR_TEMPLATE = "chat_template.json"
"""Where processors of multimodal models keep the template; tokenizers do not read it."""

FILES = ("tokenizer.json", "tokenizer_config.json")
TOKENIZERS = (*FILES, "tokenizer.model", "vocab.json", "vocab.txt", "tiktoken.model", "tekken.json", "spiece.model")
"""Files of which a tokenizer has at least one."""

SPECIAL_FILES = ("special_tokens_map.json", "added_tokens.json")
TEMPLATE_FILE = "chat_template.jinja"


def load_tokenizer(folder: Path, model: Model) -> Any:
    """Load the tokenizer from a local folder. Raises UserError (ModelUnsupported, ModelInvalid) with what is wrong."""
    _check_files(folder, model.location.uri)
    _check_there(folder, model.location.uri)
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=model.trust_remote_code
        )
    except (
        Exception
    ) as error:  # its files are the user's: each parser raises errors of its own for what it does not know
        raise UserError("ModelUnsupported", _refused(folder, model.location.uri, error)) from error
    if set(tokenizer.get_vocab().values()) <= set(
        tokenizer.all_special_ids
    ):  # made up by the library for want of a file
        raise UserError(
            "ModelInvalid",
            f"the tokenizer of {model.location.uri} has no tokens but special ones: copy the tokenizer files (tokenizer.json, "
            "tokenizer_config.json) of the model next to config.json",
        )
    if not tokenizer.chat_template and (template := _processor_template(folder, model.location.uri)):
        tokenizer.chat_template = template
    return tokenizer


def _check_files(folder: Path, uri: str) -> None:
    """Refuse files that a copy or a download left cut, empty or with other content."""
    for file in (folder / name for name in (*FILES, *SPECIAL_FILES, TEMPLATE_FILE)):
        if not file.is_file():
            continue
        content = file.read_bytes()
        if found := page(content[:BEGINNING_BYTES]):
            raise UserError("ModelInvalid", f"{file.name} of {uri} cannot be used: {found}. Copy it again")
        if file.name != TEMPLATE_FILE:
            _check_object(content, file.name, uri)


def _check_there(folder: Path, uri: str) -> None:
    if any((folder / name).is_file() for name in TOKENIZERS):
        return
    raise UserError(
        "ModelInvalid",
        f"{uri} has no tokenizer: copy tokenizer.json and tokenizer_config.json of the model that these weights come from next to "
        "config.json",
    )


def _check_object(content: bytes, name: str, uri: str) -> None:
    if not content.strip():
        raise UserError("ModelInvalid", f"{name} of {uri} is empty: copy it again")
    try:
        value = json.loads(content.decode("utf-8-sig"))
    except ValueError as error:
        raise UserError("ModelInvalid", f"{name} of {uri} is not JSON ({error}): copy it again") from error
    if not isinstance(value, dict):
        raise UserError("ModelInvalid", f"{name} of {uri} is not a JSON object: copy it again")


def _refused(folder: Path, uri: str, error: Exception) -> str:
    if "trust_remote_code" in str(error):
        return (
            f"the tokenizer of {uri} brings its own Python code (auto_map in tokenizer_config.json): use a model whose "
            "tokenizer is a tokenizer.json, or set model.trustRemoteCode with a pinned revision of a model on the hub"
        )
    problem = shorten(" ".join(str(error).split()), 300)
    if (folder / "tokenizer.model").is_file() and not (folder / FILES[0]).is_file():
        return (
            f"{uri} has a tokenizer.model but no tokenizer.json ({problem}). Write tokenizer.json with "
            "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER) in an environment with sentencepiece"
        )
    return f"the tokenizer of {uri} cannot be loaded ({problem}): tokenizer.json and tokenizer_config.json must be next to config.json"


def _processor_template(folder: Path, uri: str) -> str:
    file = folder / PROCESSOR_TEMPLATE
    try:
        found = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except ValueError as error:
        raise UserError("ModelInvalid", f"{file.name} of {uri} is not JSON ({error}): copy it again") from error
    template = found.get("chat_template") if isinstance(found, dict) else None
    return template if isinstance(template, str) else ""
