"""The part of FineTuneJob.spec that says what the data is and how a row is read. Part of spec."""

from typing import Annotated, Literal

from pydantic import AfterValidator, StringConstraints

from finetune_operator.api.fields import Model, Name, between, items, items_by, unique
from finetune_operator.api.locations import DataSource, Source
from finetune_operator.api.values import (
    ArgumentName,
    ColumnName,
    ConfigName,
    Prompt,
    PromptTemplate,
    Revision,
    RoleWord,
    Split,
    Weight,
)


class Credentials(Model):
    """A Secret of the same namespace. It is mounted into the Pods, never read by the operator. Keys that are read:
    HF_TOKEN, HF_ENDPOINT, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION, AWS_ENDPOINT_URL."""

    secret_name: Name
    """Name of the Secret."""


class ColumnsSpec(Model):
    """Names of the columns by role, where they differ from the role's own name."""

    messages: ColumnName | None = None
    """Column with the list of {role, content}."""
    prompt: ColumnName | None = None
    """Column with the question: a string or a list of messages."""
    completion: ColumnName | None = None
    """Column with the answer: a string or a list of messages."""
    text: ColumnName | None = None
    """Column with plain text."""
    system: ColumnName | None = None
    """Column with the system prompt of the row."""
    role: ColumnName | None = None
    """Key of a message that says who speaks; default role, from, speaker, author or sender."""
    content: ColumnName | None = None
    """Key of a message that holds what is said; default content, value, parts, text or message."""


def unique_names(arguments: list["TemplateArgument"]) -> list["TemplateArgument"]:
    """Return the arguments. Raises pydantic's error when two have the same name."""
    unique([argument.name for argument in arguments])
    return arguments


Words = Annotated[list[RoleWord], items("set", least=1, most=16), AfterValidator(unique)]


class RolesSpec(Model):
    """The words that the data uses for roles, where they are not well known."""

    user: Words | None = None
    """Words for the one who asks."""
    assistant: Words | None = None
    """Words for the one who answers."""
    system: Words | None = None
    """Words for the one who sets the rules."""
    tool: Words | None = None
    """Words for the result of a tool."""


class InvalidRowsSpec(Model):
    """Rows that cannot be used: broken, incomplete, or refused by the chat template."""

    action: Literal["error", "skip"] = "error"
    """What happens to them: error refuses the job and counts them; skip leaves them out and says so in status."""
    max_percent: Annotated[int, between(0, 99)] = 10
    """With skip, the largest share of all rows that may be left out, in percent."""


class DatasetSpec(Model):
    """Rows to learn from."""

    source: DataSource
    """A file, glob or folder of jsonl, json, csv, tsv, xlsx, parquet or arrow at s3://BUCKET/KEY, pvc://CLAIM/PATH or
    file:///PATH (local cluster only), one public file at https://HOST/PATH, or a data set of the hub: hf://ORG/NAME.
    Text files may be compressed with gzip, bzip2 or zstd; objective cpt reads txt and md too."""
    config: ConfigName | None = None
    """Configuration named by the data card (README.md) of the data set; default the card's own."""
    revision: Revision | None = None
    """Commit, tag or branch of a hub data set."""
    split: Split = "train"
    """Split of a folder or hub data set, by its data card or by the names of its files."""
    format: Literal["auto", "messages", "prompt-completion", "text"] = "auto"
    """How a row is read; auto tells by its columns."""
    columns: ColumnsSpec | None = None
    """Names of the columns by role, where they differ from the role's own name."""
    roles: RolesSpec | None = None
    """The words that the data uses for roles, where they are not well known."""
    prompt_template: PromptTemplate | None = None
    """Joins columns into the question instead of columns.prompt: {COLUMN} is replaced by the text of that column."""
    invalid_rows: InvalidRowsSpec | None = None
    """What happens to rows that cannot be used; default: they are refused."""
    max_examples: Annotated[int, between(1, 1_000_000_000)] | None = None
    """Use a random sample of so many rows, drawn with training.seed: the cheap first run."""
    weight: Weight | None = None
    """Share of this data set in a mixture, relative to the others: a decimal in quotes such as "2.0". All rows are
    used as they are when absent."""
    credentials: Credentials | None = None
    """Secret with the token or keys to read it."""


class TemplateArgument(Model):
    """A variable of the chat template."""

    name: ArgumentName
    """Name as the template spells it, such as enable_thinking."""
    value: Prompt
    """Value in quotes: "true", "false" and whole numbers are read as such, all else as text."""


class ChatSpec(Model):
    """How conversations become text."""

    template: Literal["auto", "chatml"] = "auto"
    """Template of a conversation: auto is the tokenizer's own; chatml is for base models that have none."""
    template_source: Source | None = None
    """A file with a Jinja chat template to use instead of the tokenizer's: s3://BUCKET/KEY, pvc://CLAIM/PATH or
    file:///PATH (local cluster only). The published tokenizer gets it too."""
    template_credentials: Credentials | None = None
    """Secret with the keys to read the template file."""
    template_arguments: (
        Annotated[list[TemplateArgument], items_by("name", most=16), AfterValidator(unique_names)] | None
    ) = None
    """Variables of the chat template, such as enable_thinking. The published tokenizer has them as defaults."""
    system_prompt: Annotated[str, StringConstraints(max_length=4096)] = ""
    """System message for rows that have none."""
    train_on: Literal["assistant", "last", "all"] = "assistant"
    """Turns that the loss sees: every assistant turn, only the last one, or everything."""
