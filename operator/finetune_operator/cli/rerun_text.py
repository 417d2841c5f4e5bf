"""What a job that repeats another one is called, and where its result goes. Pure."""

import re
from collections.abc import Container, Mapping
from typing import Any

from finetune_operator.api.job_rules import NAME_LENGTH

NUMBERED = re.compile(r"(?P<stem>.*)-(?P<number>\d+)")


def next_name(name: str, taken: Container[str]) -> str:
    """Return the first free name that counts on: qa -> qa-2 -> qa-3."""
    match = NUMBERED.fullmatch(name)
    stem, number = (match["stem"], int(match["number"])) if match else (name, 1)
    while True:
        number += 1
        found = f"{stem[: NAME_LENGTH - len(str(number)) - 1]}-{number}"
        if found not in taken:
            return found


def next_destination(destination: str, old: str, new: str) -> str:
    """Return where the result of the new job goes: beside that of the old one, which it must not overwrite."""
    place, _, last = destination.rpartition("/")
    if old in last:
        return f"{place}/{last.replace(old, new)}"
    return f"{destination}-{new}"


def repeated(spec: Mapping[str, Any], old: str, new: str) -> dict[str, Any]:
    """Return the spec of a job that repeats another one: not suspended, with places of its own for result and checkpoints."""
    again = {key: value for key, value in spec.items() if key != "suspend"}
    output = again["output"]
    again["output"] = {**output, "destination": next_destination(output["destination"], old, new)}
    if place := (again.get("checkpoint") or {}).get("destination"):
        again["checkpoint"] = {**again["checkpoint"], "destination": next_destination(place, old, new)}
    return again
