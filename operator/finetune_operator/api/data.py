"""The part of FineTuneJob.spec that says what the data is and how a row is read. Part of spec."""

from typing import Annotated, Literal

from pydantic import AfterValidator

from finetune_operator.api.fields import Model, Name, Text, between, items, items_by, unique
from finetune_operator.api.locations import DataSource, TemplateSource
from finetune_operator.api.values import (
    ArgumentName,
    ColumnName,
    ConfigName,
    LabelText,
    Prompt,
    PromptTemplate,
    Revision,
    RoleWord,
    Split,
    Weight,
)


class Credentials(Model):
    """A Secret in the job's namespace. It is mounted into the Pods; the operator never reads it. Recognised keys:
    HF_TOKEN, HF_ENDPOINT, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION, AWS_ENDPOINT_URL,
    OPENAI_API_KEY, MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD, MLFLOW_TRACKING_TOKEN."""

    secret_name: Name
    """Name of the Secret."""


class ColumnsSpec(Model):
    """Column names, for columns that are not named after their role."""

    messages: ColumnName | None = None
    """Column with a list of {role, content} messages."""
    prompt: ColumnName | None = None
    """Column with the prompt: a string or a list of messages."""
    completion: ColumnName | None = None
    """Column with the completion: a string or a list of messages."""
    text: ColumnName | None = None
    """Column with plain text."""
    system: ColumnName | None = None
    """Column with the system prompt of each row."""
    role: ColumnName | None = None
    """Key of a message that holds its role. Default: role, from, speaker, author or sender."""
    content: ColumnName | None = None
    """Key of a message that holds its content. Default: content, value, parts, text or message."""


def unique_names(arguments: list["TemplateArgument"]) -> list["TemplateArgument"]:
    """Return the arguments. Raises pydantic's error when two have the same name."""
    unique([argument.name for argument in arguments])
    return arguments


Words = Annotated[list[RoleWord], items("set", least=1, most=16), AfterValidator(unique)]


class RolesSpec(Model):
    """The words that the data uses for roles, if they are not well known."""

    user: Words | None = None
    """Words that mean user."""
    assistant: Words | None = None
    """Words that mean assistant."""
    system: Words | None = None
    """Words that mean system."""
    tool: Words | None = None
    """Words that mean the result of a tool."""


class InvalidRowsSpec(Model):
    """Rows that cannot be used: broken, incomplete, or refused by the chat template."""

    action: Literal["error", "skip"] = "error"
    """Whether to refuse the job and count them (error), or to leave them out and say so in status (skip)."""
    max_percent: Annotated[int, between(0, 99)] = 10
    """Maximum share of the rows that skip may leave out, in percent."""


class DatasetSpec(Model):
    """One source of training rows."""

    source: DataSource
    """A file, glob or folder of jsonl, json, csv, tsv, xlsx, parquet or arrow files at s3://BUCKET/KEY, gs://BUCKET/KEY,
    az://ACCOUNT/CONTAINER/KEY, pvc://CLAIM/PATH or file:///PATH (local cluster only), an artifact at oci://HOST/REPOSITORY:TAG, one
    public file at https://HOST/PATH, or a dataset on the hub: hf://ORG/NAME.
    Text files may be compressed with gzip, bzip2 or zstd; objective cpt reads txt and md too."""
    config: ConfigName | None = None
    """Configuration named by the dataset card (README.md). Default: the one that the card marks as default."""
    revision: Revision | None = None
    """Commit, tag or branch of a hub dataset."""
    split: Split = "train"
    """Split of a folder or hub dataset, as its dataset card or its file names say."""
    format: Literal["auto", "messages", "prompt-completion", "text"] = "auto"
    """Format of the rows. auto detects it from the column names."""
    columns: ColumnsSpec | None = None
    """Column names, for columns that are not named after their role."""
    roles: RolesSpec | None = None
    """The words that the data uses for roles, if they are not well known."""
    prompt_template: PromptTemplate | None = None
    """Builds the prompt from several columns, instead of columns.prompt: {COLUMN} is replaced by the text of that column."""
    class_names: Annotated[list[LabelText], items("atomic", least=2, most=256)] | None = None
    """Names of the classes, for a completion that is the number of a class: 0 is the first. ClassLabel columns have their own."""
    invalid_rows: InvalidRowsSpec | None = None
    """What happens to rows that cannot be used. Default: the job is refused."""
    max_examples: Annotated[int, between(1, 1_000_000_000)] | None = None
    """Train on a random sample of at most this many rows, drawn with training.seed: useful for a cheap first run."""
    weight: Weight | None = None
    """Weight of this dataset in a mixture, relative to the others: a decimal in quotes such as "2.0". Without weights,
    every row is used once per epoch."""
    credentials: Credentials | None = None
    """Secret with the credentials for reading source."""


class TemplateArgument(Model):
    """A variable of the chat template."""

    name: ArgumentName
    """Name as the template spells it, such as enable_thinking."""
    value: Prompt
    """Value in quotes: "true", "false" and whole numbers are read as such, all else as text."""


class ChatSpec(Model):
    """How conversations are turned into text."""

    template: Literal["auto", "chatml"] = "auto"
    """Chat template: auto uses the tokenizer's own; chatml is for base models that have none."""
    template_source: TemplateSource | None = None
    """A file with a Jinja chat template to use instead of the tokenizer's: configmap://NAME/KEY, s3://BUCKET/KEY, gs://BUCKET/KEY,
    az://ACCOUNT/CONTAINER/KEY,
    pvc://CLAIM/PATH or file:///PATH (local cluster only). The published tokenizer gets it too."""
    template_credentials: Credentials | None = None
    """Secret with the credentials for reading templateSource."""
    template_arguments: (
        Annotated[list[TemplateArgument], items_by("name", most=16), AfterValidator(unique_names)] | None
    ) = None
    """Variables of the chat template, such as enable_thinking. The published tokenizer has them as defaults."""
    system_prompt: Text = ""
    """System message for rows that have none."""
    train_on: Literal["assistant", "last", "all"] = "assistant"
    """Turns that count towards the loss: every assistant turn, only the last one, or all of them."""
