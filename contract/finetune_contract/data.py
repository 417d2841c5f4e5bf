"""Places and data sets: what both preflight and trainer are told about where rows are and how they are read. Part of contract."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """A place outside the Pod: `hf://ORG/NAME`, `s3://BUCKET/KEY`, `pvc://CLAIM/PATH`, `configmap://NAME/KEY` or `file:///PATH`."""

    uri: str
    secret: str = ""
    """Name of the credentials Secret, looked up in ENV_SECRETS; empty: ambient identity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Which column of the data plays which role; empty: the role's own name."""

    messages: str = ""
    prompt: str = ""
    completion: str = ""
    text: str = ""
    system: str = ""
    role: str = ""
    """Key of a message that says who speaks."""
    content: str = ""
    """Key of a message that holds what is said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """One source of rows."""

    location: Location
    split: str = "train"
    config: str = ""
    """Configuration of the data card; empty: its default."""
    revision: str = ""
    """Commit, tag or branch of a hub data set."""
    format: str = "auto"
    """auto | messages | prompt-completion | text"""
    columns: Columns = field(default_factory=Columns)
    roles: dict[str, str] = field(default_factory=dict)
    """The data's word for a role -> ours."""
    prompt_template: str = ""
    """Joins columns into the prompt: `{column}` is replaced by its text."""
    class_names: tuple[str, ...] = ()
    """Names of the classes whose numbers are the completions; empty: completions are texts."""
    invalid_rows: str = "error"
    """error | skip"""
    invalid_max_percent: int = 10
    """With skip: more invalid rows than this share of all are refused."""
    max_examples: int = 0
    """Rows taken with a fixed seed; 0: all."""
    weight: float = 0.0
    """Share of an epoch, relative to the other data sets; 0 for all: no mixture, every row once."""
