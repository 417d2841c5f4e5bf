"""Rules between the fields of a data set, of a task of lm-eval and of the chat settings. Part of rules."""

from finetune_operator.api.cel import Rule
from finetune_operator.api.data import ColumnsSpec
from finetune_operator.api.rules import needs_secret, only_remote

COLUMN_SETS = (
    ("messages", ("prompt", "completion", "text"), "messages and system"),
    ("prompt-completion", ("messages", "text"), "prompt, completion and system"),
    ("text", ("messages", "prompt", "completion", "system", "role", "content"), "text"),
)
"""(format, columns it does not have, columns it has)."""


def format_columns(name: str, foreign: tuple[str, ...], own: str) -> Rule:
    """Return the rule that `columns` names nothing that a format does not read."""
    present = " || ".join(f"has(self.columns.{column})" for column in foreign)
    return Rule(
        cel=f"self.format != '{name}' || !has(self.columns) || !({present})",
        message=f"format {name} uses the columns {own} only: remove the others, or set another format",
        holds=lambda data: (
            data.format != name or data.columns is None or all(getattr(data.columns, c) is None for c in foreign)
        ),
        field="columns",
    )


def families(columns: ColumnsSpec) -> int:
    """Count the formats whose columns are named."""
    pair = columns.prompt is not None or columns.completion is not None
    return (columns.messages is not None) + pair + (columns.text is not None)


HUB_REVISION = Rule(
    cel="!has(self.revision) || self.source.startsWith('hf://')",
    message="revision applies to hf:// only: remove it",
    holds=lambda data: data.revision is None or data.source.startswith("hf://"),
    field="revision",
)
HUB_CREDENTIALS = only_remote(
    "credentials", "source", lambda data: data.credentials is None or needs_secret(data.source)
)

DATASET = (
    *(format_columns(*row) for row in COLUMN_SETS),
    Rule(
        cel="self.format != 'auto' || !has(self.columns) || [has(self.columns.messages),"
        " has(self.columns.prompt) || has(self.columns.completion), has(self.columns.text)].filter(x, x).size() <= 1",
        message="columns mixes several formats: keep only messages, only prompt and completion, or only text",
        holds=lambda data: data.format != "auto" or data.columns is None or families(data.columns) <= 1,
        field="columns",
    ),
    HUB_REVISION,
    Rule(
        cel="!has(self.promptTemplate) || self.format in ['auto', 'prompt-completion']",
        message="promptTemplate makes the prompt of format prompt-completion: set that format, or remove it",
        holds=lambda data: data.prompt_template is None or data.format in ("auto", "prompt-completion"),
        field="promptTemplate",
    ),
    Rule(
        cel="!has(self.promptTemplate) || !has(self.columns)"
        " || !(has(self.columns.messages) || has(self.columns.prompt) || has(self.columns.text))",
        message="promptTemplate replaces columns.prompt: remove messages, prompt and text from columns, or remove it",
        holds=lambda data: (
            data.prompt_template is None
            or data.columns is None
            or all(getattr(data.columns, name) is None for name in ("messages", "prompt", "text"))
        ),
        field="promptTemplate",
    ),
    HUB_CREDENTIALS,
)

LM_EVAL_TASK = (HUB_REVISION, HUB_CREDENTIALS)

CHAT = (
    Rule(
        cel="!has(self.templateSource) || self.template == 'auto'",
        message="templateSource and template chatml exclude each other: remove one of them",
        holds=lambda chat: chat.template_source is None or chat.template == "auto",
        field="templateSource",
    ),
    Rule(
        cel="!has(self.templateCredentials) || has(self.templateSource)",
        message="templateCredentials belong to templateSource: set it, or remove them",
        holds=lambda chat: chat.template_credentials is None or chat.template_source is not None,
        field="templateCredentials",
    ),
    only_remote(
        "templateCredentials",
        "templateSource",
        lambda chat: (
            chat.template_credentials is None or chat.template_source is None or needs_secret(chat.template_source)
        ),
    ),
)
