"""What `finetune import` makes of each file of tests/data/imports: what somebody who comes from another tool would read."""

from pathlib import Path

from finetune_operator.cli.importing.formats import imported
from finetune_operator.cli.importing.imported import settled
from finetune_operator.cli.importing.text import job_text

INPUTS = Path(__file__).parents[1] / "data" / "imports"
GOLDEN = Path(__file__).parent / "imports"
NAMES = sorted(path.name for path in INPUTS.iterdir() if path.is_file())


def written(name: str) -> str:
    """Return the job.yaml of a file."""
    path = INPUTS / name
    return job_text(settled(imported(path.read_text(), path, "")), name, "job.yaml")


def files() -> dict[Path, str]:
    """Return the golden files with their texts."""
    return {GOLDEN / f"{Path(name).stem}.yaml": written(name) for name in NAMES}
