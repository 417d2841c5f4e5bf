"""What `finetune pools discover` says about each file of tests/data/nodes: what a platform team would apply."""

from pathlib import Path

from finetune_operator.cli.app import app
from typer.testing import CliRunner

NODES = Path(__file__).parents[1] / "data" / "nodes"
GOLDEN = Path(__file__).parent / "pools"
CLUSTERS = sorted(path.stem for path in NODES.glob("*.yaml"))


def proposed(cluster: str, *options: str) -> str:
    """Return stdout, and what went to stderr as comments behind it."""
    done = CliRunner().invoke(app, ["pools", "discover", "--nodes", str(NODES / f"{cluster}.yaml"), *options])
    assert done.exit_code == 0, done.output
    return done.stdout + "".join(f"# stderr: {line}\n" for line in done.stderr.splitlines())


def files() -> dict[Path, str]:
    """Return the golden files with their texts."""
    return {GOLDEN / f"{name}.yaml": proposed(name) for name in CLUSTERS}
