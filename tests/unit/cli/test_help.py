"""Help and completion load a command without what it works with: a client or a planner takes longer than a user notices."""

import subprocess
import sys

from finetune_operator.cli.app import COMMANDS

LOADED = """
import sys
from finetune_operator.cli.app import COMMANDS, load
for name in COMMANDS:
    load(name)
print(*sys.modules)
"""
HEAVY = {
    "aiohttp", "finetune_operator.controller", "finetune_operator.lifecycle",
    "finetune_operator.planning.planner",
    "kopf", "kubernetes", "numpy", "uvicorn",
}  # fmt: skip


def test_no_command_loads_a_client_or_the_planner_for_its_help():
    """All commands in one process: what one of them imports at its top is seen here."""
    loaded = subprocess.run([sys.executable, "-c", LOADED], check=True, capture_output=True, text=True).stdout.split()

    assert {f"finetune_operator.cli.{name}" for name in COMMANDS} - set(loaded) == {
        "finetune_operator.cli.import", "finetune_operator.cli.serve-ui",
    }  # fmt: skip
    assert HEAVY & set(loaded) == set()
