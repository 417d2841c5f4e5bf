"""docs/install.md: the policy to make in each namespace is the one that the chart makes in named ones."""

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tests.real_node.workspace import trainers_policy

GOLDEN = Path(__file__).parents[1] / "golden/chart/namespaced.yaml"


def test_the_policy_to_copy_is_the_charts():
    """Tests on real nodes run under the one of the page."""
    rendered: list[Any] = [each for each in YAML(typ="safe").load_all(GOLDEN.read_text()) if each]
    policies = [
        each for each in rendered if each["kind"] == "NetworkPolicy" and "-trainers" in each["metadata"]["name"]
    ]

    assert [policy["spec"] for policy in policies] == [trainers_policy()["spec"]] * 2
