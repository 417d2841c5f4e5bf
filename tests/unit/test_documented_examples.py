"""What the documents tell readers to type is accepted: fragments of a job, and commands with their options."""

import io
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from finetune_operator.api.spec import FineTuneJobSpec
from finetune_operator.cli.app import COMMANDS, load
from finetune_operator.cli.manifest_file import parse_job
from finetune_operator.manifests import names
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md"), *ROOT.glob("charts/*/*.md")]
)
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
FIELDS = {field.alias or name for name, field in FineTuneJobSpec.model_fields.items()}
PLAIN = {
    "model": {"source": "hf://org/model"},
    "datasets": [{"source": "s3://bucket/train.jsonl"}],
    "output": {"destination": "s3://bucket/out"},
}


def blocks() -> list[tuple[str, str, str]]:
    """Return page, language and text of every fenced block."""
    return [
        (page.relative_to(ROOT).as_posix(), language, text)
        for page in PAGES
        for language, text in BLOCK.findall(page.read_text())
    ]


def jobs() -> list[tuple[str, dict[str, Any]]]:
    """Return every job, and every fragment of a spec in a job that is otherwise plain."""
    found = []
    for page, _, text in (block for block in blocks() if block[1] == "yaml"):
        for document in YAML(typ="safe").load_all(text):
            if document.get("kind") == "FineTuneJob":
                found.append((page, document))
            elif set(document) <= FIELDS:
                found.append((page, a_job(PLAIN | document)))
    return found


def a_job(spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "finetune.dev/v1alpha1", "kind": "FineTuneJob", "metadata": {"name": "tiny"}, "spec": spec}


def commands() -> list[str]:
    """Return every line of a block that begins with `finetune`, without its comment and what follows a pipe."""
    lines = (line for _, language, text in blocks() if not language for line in text.replace("\\\n", " ").splitlines())
    found = (re.match(r"(?:\.venv/bin/)?finetune (.*)", line) for line in lines)
    return sorted({re.split(r" # | > |\s#|\|", match[1])[0].strip() for match in found if match})


def test_the_documents_were_read():
    """A moved folder must fail the tests, not empty them."""
    assert (len(PAGES) > 40, len(jobs()) > 8, len(commands()) > 20) == (True, True, True)


@pytest.mark.parametrize(("page", "document"), jobs(), ids=lambda value: value if isinstance(value, str) else "")
def test_a_documented_job_keeps_the_rules(page: str, document: dict[str, Any]):
    """What the documents show is read as `finetune plan -f` reads it, with every rule of the API."""
    text = io.StringIO()
    YAML().dump(document, text)

    assert parse_job(text.getvalue()).name == document["metadata"]["name"]


@pytest.mark.parametrize("line", commands())
def test_a_documented_command_exists(line: str):
    """The command is there, and so is each of its options."""
    words = shlex.split(line.rstrip("&"))
    if words[0].startswith("-") or words[0] == "COMMAND":
        assert words[0] in ("--help", "--version", "COMMAND")
        return
    assert words[0] in COMMANDS
    command = load(words[0])
    if hasattr(command, "commands") and words[1:] and not words[1].startswith("-"):
        command = command.commands[words[1]]
    known = {name for each in command.params for name in (*each.opts, *each.secondary_opts)} | {"--help"}
    given = [word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)]

    assert command.name == "kubectl" or [option for option in given if option not in known] == []


def test_documented_labels_exist():
    """Each name of our group that a reader may select by is one that the operator sets."""
    text = "\n".join(page.read_text() for page in PAGES)
    named = set(re.findall(r"finetune\.dev/[a-z][a-z-]*[a-z](?![\w.])", text))
    ours = {value for value in vars(names).values() if isinstance(value, str)}

    assert "finetune.dev/role" in named
    assert named - ours - {"finetune.dev/operator"} == set()  # the value of spec.managedBy


def test_documented_metrics_exist():
    """Each metric in the runbook is on the generated page, which has all that the operator serves."""
    runbook, reference = (
        (ROOT / "docs" / page).read_text() for page in ("operating/runbook.md", "reference/metrics.md")
    )
    named = set(re.findall(r"\bfinetune_[a-z_]+[a-z]\b", runbook))

    assert named
    assert [name for name in sorted(named) if f"| `{name}` |" not in reference] == []
