"""The tokenizer of a model's folder, with the chat template that belongs to it. Called by preflight and the trainer; no torch."""

import json
from pathlib import Path
from typing import Any

from finetune_contract import Model, shorten
from transformers import AutoTokenizer

from finetune_trainer.errors import UserError

PROCESSOR_TEMPLATE = "chat_template.json"
"""Where processors of multimodal models keep the template; tokenizers do not read it."""

FILES = ("tokenizer.json", "tokenizer_config.json")


def load_tokenizer(folder: Path, model: Model) -> Any:
    """Load the tokenizer from a local folder. Raises UserError(ModelUnsupported) with what is wrong."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=model.trust_remote_code
        )
    except (
        Exception
    ) as error:  # its files are the user's: each parser raises errors of its own for what it does not know
        raise UserError("ModelUnsupported", _refused(folder, model.location.uri, error)) from error
    if not tokenizer.chat_template and (template := _processor_template(folder, model.location.uri)):
        tokenizer.chat_template = template
    return tokenizer


def _refused(folder: Path, uri: str, error: Exception) -> str:
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
