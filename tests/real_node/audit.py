"""What the operator asked of the API server, from the audit log. Called by the tests."""

import json
from pathlib import Path
from typing import Any

from tests.real_node.installation import OPERATOR_USER

Grant = tuple[str, str]
"""Verb, and group/resource or group/resource/subresource."""


def requests(log: Path) -> list[dict[str, Any]]:
    """Return the operator's requests for objects, from the audit log.

    Who asked with a token that is no longer valid has no name: an operator whose ServiceAccount was just uninstalled.
    """
    whole_lines = log.read_text().rpartition("\n")[0].splitlines()
    entries = (json.loads(line) for line in whole_lines)
    return [entry for entry in entries if entry["user"].get("username") == OPERATOR_USER and "objectRef" in entry]


def asked(entry: dict[str, Any]) -> Grant:
    """Return what a request needed."""
    about = entry["objectRef"]
    parts = (about.get("apiGroup", ""), about["resource"], about.get("subresource", ""))
    return entry["verb"], "/".join(parts).rstrip("/")
