"""The contract's front door: names for type checkers in __init__.pyi, and for the program in __init__.py."""

import ast
import subprocess
import sys
from pathlib import Path

import finetune_contract as contract
import pytest

STUB = Path(contract.__file__).with_suffix(".pyi")


def test_each_name_is_where_the_stub_says():
    """Both list the same names, and each is the object of its module."""
    stub = ast.parse(STUB.read_text()).body
    said = {
        alias.name: node.module
        for node in stub
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    found = {name: f"finetune_contract.{module}" for name, module in contract._MODULES.items()}

    assert found == said
    for name, module in said.items():
        assert getattr(contract, name) is getattr(sys.modules[module], name)


def test_a_name_that_is_not_there():
    """As any module says it."""
    with pytest.raises(AttributeError, match="module 'finetune_contract' has no attribute 'Runs'"):
        _ = contract.Runs


def test_a_plan_loads_no_dataclass_of_a_run():
    """They are a twentieth of its time to the first line."""
    program = (
        "import sys; import finetune_operator.cli.plan_page, finetune_operator.cli.plan_view; "
        "print(sorted(name for name in sys.modules if name.startswith('finetune_contract.')))"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()

    assert ast.literal_eval(said) == [
        "finetune_contract.cost", "finetune_contract.data", "finetune_contract.engines", "finetune_contract.measuring",
        "finetune_contract.served", "finetune_contract.wire",
    ]  # fmt: skip
