"""README.md and the files around it say what is true today."""

import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from demo.pictures import IMAGES, pictures
from tests.bench.bench_vram import markdown

ROOT = Path(__file__).parents[2]
README = " ".join((ROOT / "README.md").read_text().split())
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


@pytest.mark.parametrize("name", ["plan.svg", "job.svg"])
def test_the_terminals_are_what_the_commands_print(name: str):
    """After a change of `finetune plan` or `finetune get`: `make pictures`."""
    assert pictures()[name] == (IMAGES / name).read_text()


def test_the_memory_figures_are_those_of_the_model():
    """Median error, right card and too small with margin, as the table of docs/vram-model.md has them."""
    rows = {cells[0].strip("* "): cells[2:] for line in markdown() if len(cells := line.strip("| ").split(" | ")) == 8}
    median, _, _, right_card = rows["this planner"][:4]
    too_small = rows["this planner, with margin"][4]

    assert f"The median error is {median.replace('%', ' %')}" in README
    assert f"{round(float(right_card.strip('%')))} % of the cases" in README
    assert f"too small in {too_small.replace('%', ' %')}" in README


def test_workflows_run_the_commands_of_the_readme():
    """CI does what contributors do, with actions that nobody can exchange."""
    steps = [
        step for file in WORKFLOWS for job in YAML(typ="safe").load(file)["jobs"].values() for step in job["steps"]
    ]

    assert {step["run"] for step in steps if "run" in step} == {"make check", "make test"}
    assert [step["uses"] for step in steps if not re.search(r"@[0-9a-f]{40}$", step.get("uses", "@" + 40 * "0"))] == []


def test_hooks_call_programs_of_the_environment():
    """pre-commit downloads nothing: every hook is local and runs what `make` installed."""
    (repository,) = YAML(typ="safe").load(ROOT / ".pre-commit-config.yaml")["repos"]

    assert repository["repo"] == "local"
    assert [hook["id"] for hook in repository["hooks"] if not hook["entry"].startswith(".venv/bin/")] == []
