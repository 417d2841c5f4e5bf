"""The chat template that a job brings along, and the variables that it sets: both become the tokenizer's own template.

So preflight, training, the samples after it and the published tokenizer all write conversations in the same way.
"""

import json
import re
from typing import Any

import jinja2
from finetune_contract import Chat
from transformers.utils.chat_template_utils import _compile_jinja_template as compiled_template  # pinned version

from finetune_trainer.errors import UserError
from finetune_trainer.storage import Role, open_location

LARGEST_TEMPLATE_BYTES = 1 << 20
CONFIG_MAP = "configmap://"
NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,17})")


def choose_template(tokenizer: Any, chat: Chat) -> None:
    """Put the job's own template and its arguments into the tokenizer. Raises UserError where they are of no use."""
    if chat.template_source:
        tokenizer.chat_template = _read(chat)
    if chat.template_arguments:
        tokenizer.chat_template = _with_arguments(tokenizer.chat_template, chat.template_arguments)


def _read(chat: Chat) -> str:
    assert chat.template_source is not None
    store = open_location(chat.template_source, Role.DATASET)
    files = store.files()
    if not files and store.uri.startswith(CONFIG_MAP):
        name, _, key = store.uri.removeprefix(CONFIG_MAP).partition("/")
        raise UserError(
            "DatasetNotFound",  # preflight is run again for it: the ConfigMap may arrive later
            f"the ConfigMap {name} does not exist in this namespace or has no key {key}: create it or correct chat.templateSource",
        )
    if len(files) != 1 or files[0].size_bytes > LARGEST_TEMPLATE_BYTES:
        found = f"{len(files)} files" if len(files) != 1 else f"{files[0].size_bytes} bytes"
        raise UserError(
            "InvalidSpec", f"chat.templateSource {store.uri} holds {found}: name one Jinja file of at most 1 MiB"
        )
    with store.open(files[0].path) as opened:
        content = opened.read()
    try:
        template = content.decode("utf-8-sig")
        compiled_template(template)
    except (UnicodeDecodeError, jinja2.TemplateError) as error:
        raise UserError("InvalidSpec", f"chat.templateSource {store.uri} is not a Jinja template ({error})") from error
    if not template.strip():
        raise UserError("InvalidSpec", f"chat.templateSource {store.uri} is empty")
    return template


def _with_arguments(template: Any, arguments: dict[str, str]) -> Any:
    """Set the variables at the beginning of the template, unless whoever renders it gives a value."""
    if isinstance(template, dict):
        return {name: _with_arguments(text, arguments) for name, text in template.items()}
    unknown = [name for name in arguments if not re.search(rf"\b{name}\b", template or "")]
    if unknown:
        raise UserError(
            "InvalidSpec",
            f"chat.templateArguments names {', '.join(unknown)}, which the chat template does not use: correct the name or "
            "remove it",
        )
    lines = [
        f"{{%- if {name} is not defined %}}{{%- set {name} = {_literal(value)} %}}{{%- endif %}}"
        for name, value in sorted(arguments.items())
    ]
    beginning = "".join(lines)
    return template if template.startswith(beginning) else beginning + template


def _literal(value: str) -> str:
    """`"false"` is a truth value and `"2"` a number; all else is text."""
    if value in ("true", "false") or NUMBER.fullmatch(value):
        return value
    return json.dumps(value, ensure_ascii=False)
