"""The job.yaml that `finetune init` writes, and what it says about it. Pure."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from finetune_operator.api.group import API_VERSION, JOB_KIND
from finetune_operator.api.job_rules import NAME_LENGTH
from finetune_operator.planning.layouts import counted

PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_ .-]*")
WORDS = frozenset("true false yes no on off null y n".split())
"""What some reader of YAML takes for a value rather than a name."""

MOST_SHOWN = 4
LONGEST_PROMPT = 200
ROLES = {
    "messages": "{} holds the conversations",
    "prompt": "{} is the prompt",
    "completion": "{} the answer",
    "text": "{} is learned as plain text",
    "system": "{} the system prompt",
    "promptTemplate": "the prompt is {!r}",
}
UPLOAD = "file:// works on the local cluster only. On a shared cluster, upload it and write s3://BUCKET/KEY, gs://BUCKET/KEY or pvc://CLAIM/PATH."


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """The data as it was found."""

    shown: str
    """As the user named it."""
    source: str
    rows: int | None = None
    """None where it could not be looked at."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Role -> column, as they are read."""
    named: Mapping[str, Any] = field(default_factory=dict)
    """What the job must say so that they are: columns, promptTemplate."""
    guessed: bool = False
    """The names of the columns did not tell; their values did."""
    first_prompt: str = ""
    labels: tuple[str, ...] = ()
    """The different answers, where the data is a classification."""
    warnings: tuple[str, ...] = ()
    found: tuple[dict[str, Any], ...] = ()
    """As the trainer found it, for a first plan."""
    not_read: str = ""
    """Why it could not be looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """Everything that job.yaml is made of."""

    name: str
    file: str
    model: str
    model_note: str
    objective: str
    dataset: Dataset
    output: str


def name_of(source: str) -> str:
    """Return a name for a job on this data: `My QA.csv` -> `my-qa`."""
    stem = re.split(r"[.*]", source.rstrip("/*").rpartition("/")[2])[0].lower()
    name = re.sub(r"[^a-z0-9]+", "-", stem).lstrip("-0123456789")[:NAME_LENGTH].rstrip("-")
    return name or "fine-tune"


def job_text(draft: Draft) -> str:
    """Return the manifest with its comments."""
    return "\n".join(
        [
            f"# Fine-tunes {draft.model.rpartition('/')[2]} on {draft.dataset.shown}.",
            *(f"#   {command:<42}{about}" for command, about in next_commands(draft.file)),
            "# Every field: docs/api.md, or `kubectl explain ftj.spec`.",
            f"apiVersion: {API_VERSION}",
            f"kind: {JOB_KIND}",
            "metadata:",
            f"  name: {draft.name}",
            "spec:",
            "  model:",
            *([f"    # {draft.model_note}"] if draft.model_note else []),
            f"    source: {draft.model}",
            *dataset_lines(draft.dataset),
            *(
                ["  objective: cpt # plain text is learned, no questions and answers"]
                if draft.objective == "cpt"
                else []
            ),
            "  # method: lora       # lora, qlora or full. Default: auto; the plan says why it chose one",
            "  # training:",
            f"  #   epochs: {1 if draft.objective == 'cpt' else 3}",
            '  #   learningRate: "2e-4"',
            *evaluation_lines(draft),
            "  # runPolicy:",
            '  #   budget: {maxCostUSD: "20.00"}  # the job is suspended with a checkpoint when it has cost this much',
            "  output:",
            "    # A folder of this job's own.",
            f"    destination: {draft.output}",
            "",
        ]
    )


def dataset_lines(found: Dataset) -> list[str]:
    """Return the datasets of the spec, with what was found out about them."""
    told = f"Not examined: {found.not_read}" if found.rows is None else f"{counted(found.rows, 'row')}: {roles(found)}."
    lines = ["  datasets:", f"    # {told}"]
    lines += ["    # The column names do not say which is which: check this choice."] if found.guessed else []
    lines += [f"    # Warning: {' '.join(warning.split())}" for warning in found.warnings]
    lines += [f"    # {UPLOAD}"] if found.source.startswith("file://") else []
    lines += [f"    - source: {found.source}"]
    lines += [f"      {key}: {_flow(value)}" for key, value in found.named.items()]
    return lines


def roles(found: Dataset) -> str:
    """Say which column is what."""
    return ", ".join(ROLES[role].format(name) for role, name in found.columns.items()) or "plain text"


def evaluation_lines(draft: Draft) -> list[str]:
    """Suggest a gate, a metric where the answers are labels, and a question of the data that base and tuned model answer at the end."""
    prompt = " ".join(draft.dataset.first_prompt.split())[:LONGEST_PROMPT]
    asked = [
        "  #   samples: # both models answer these after training",
        f"  #     prompts: [{json.dumps(prompt, ensure_ascii=False)}]",
    ]
    labels = draft.dataset.labels
    return [
        "  # evaluation: # by default 5 % of the rows are held out, and base and tuned model are compared on them",
        '  #   gate: {minRelativeLossImprovement: "0.02"} # sets the condition Promoted if the loss improves by 2 %',
        *([label_line(labels)] if labels else []),
        *(asked if prompt else []),
    ]


def label_line(labels: Sequence[str]) -> str:
    """Offer the metric of a classification."""
    named = ", ".join(" ".join(label.split()) for label in labels[:MOST_SHOWN])
    more = ", ..." if len(labels) > MOST_SHOWN else ""
    about = f"how often each model chooses the right one of {len(labels)} answers: {named}{more}"
    return f"  #   metrics: [{{type: label}}] # {about}"


def next_commands(file: str) -> tuple[tuple[str, str], ...]:
    """Return what to type next, and what for."""
    return (
        (f"finetune data preview -f {file}", "see the rows as the model will"),
        (f"finetune plan -f {file}", "see memory, time and cost"),
        (f"finetune submit {file}", "run it"),
    )


def said(draft: Draft, plan: str) -> list[str]:
    """Return what init prints when the file is written."""
    found = draft.dataset
    rows = f"not examined: {found.not_read}" if found.rows is None else f"{counted(found.rows, 'row')}: {roles(found)}"
    guessed = " (guessed from the values: check it)" if found.guessed else ""
    return [
        f"wrote {draft.file}",
        f"  data    {found.shown}, {rows}{guessed}",
        f"  model   {draft.model}",
        f"  plan    {plan}",
        f"  result  {draft.output}",
        *(f"  warning: {warning}" for warning in found.warnings),
        "",
        "Next:",
        *(f"  {command:<42}# {about}" for command, about in next_commands(draft.file)),
    ]


def _flow(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_scalar(name)}" for key, name in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False)


def _scalar(text: str) -> str:
    plain = PLAIN.fullmatch(text) and text.lower() not in WORDS and text == text.strip()
    return text if plain else json.dumps(text, ensure_ascii=False)
