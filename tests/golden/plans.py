"""The plan of every example, as `finetune plan` would make it: what users of the examples see."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

from finetune_operator.api.pools import GPUPool
from finetune_operator.cli.manifest_file import parse_job, parse_pools
from finetune_operator.cli.plan import command
from finetune_operator.cli.plan_data import Assumptions, supposed_preflight
from finetune_operator.cli.plan_model import model_shape
from finetune_operator.cli.plan_options import EXAMPLES, TOKENS_PER_EXAMPLE
from finetune_operator.cli.plan_page import BUILT_IN
from finetune_operator.planning.planner import plan

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "plans"
GOLDEN_PAGE = Path(__file__).parent / "plan_page.txt"
PAGE_EXAMPLE = "03-qlora-70b"
SIZES = {"01-first-fine-tune": Assumptions(examples=200, tokens_per_example=60)}
"""Rows and tokens of an example where they are not those that `finetune plan` assumes."""


def examples() -> list[Path]:
    """Return the folders that hold a job."""
    return sorted(path.parent for path in (ROOT / "examples").glob("*/job.yaml"))


def planned_example(folder: Path) -> dict[str, Any]:
    """Return status.plan and status.resolved of an example."""
    spec = parse_job((folder / "job.yaml").read_text()).spec
    shape = model_shape(spec, "")
    data = SIZES.get(folder.name, Assumptions(examples=EXAMPLES, tokens_per_example=TOKENS_PER_EXAMPLE))
    found = supposed_preflight(spec, shape, data)
    run = plan(spec, architecture=shape, preflight=found, pools=pools_for(folder), image="trainer")
    return {"plan": run.plan.model_dump(), "resolved": run.resolved.model_dump(exclude_none=True)}


def pools_for(folder: Path) -> tuple[GPUPool, ...]:
    """Return the example's own pools, else those of examples/gpupools."""
    own = sorted(folder.glob("pool*.yaml"))
    return tuple(
        pool
        for path in own or sorted((ROOT / "examples/gpupools").glob("*.yaml"))
        for pool in parse_pools(path.read_text())
    )


def golden_text(folder: Path) -> str:
    """Return the text of an example's golden file."""
    return json.dumps(planned_example(folder), indent=2) + "\n"


def page_text(folder: Path) -> str:
    """Return what `finetune plan --explain` prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        command(file=folder / "job.yaml", pools=BUILT_IN, explain=True)
    return printed.getvalue()


def files() -> dict[Path, str]:
    """Return the golden files with their texts."""
    page = {GOLDEN_PAGE: page_text(ROOT / "examples" / PAGE_EXAMPLE)}
    return page | {GOLDEN / f"{folder.name}.json": golden_text(folder) for folder in examples()}
