"""`finetune vram`: the memory of training runs described in a file, one JSON object a line. No cluster, no network."""

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from finetune_operator.errors import FinetuneError
from finetune_operator.planning.memory.estimate import MemoryEstimate, estimate
from finetune_operator.planning.memory.scenario_lines import ScenarioInvalid, object_of, scenario_of

TERMS = ("weights", "adapter", "gradients", "optimizer", "activations", "logits", "gathers", "slack", "context")


def command(
    scenarios: Annotated[
        str, typer.Option("--scenarios", help="File with one JSON scenario per line; - for standard input.")
    ],
    explain: Annotated[
        bool, typer.Option("--explain", help="Also print the components, the moment of the peak and the confidence.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 if a line has an error. The other lines are still answered.")
    ] = False,
) -> None:
    """Print the allocated, reserved and card memory of each scenario in GiB, and the request (card memory with margin).

    planning/data/scenario.schema.json describes the format. The fields measuredGiB and reading are ignored.
    """
    if scenarios != "-" and (Path(scenarios).is_dir() or not Path(scenarios).exists()):
        raise typer.BadParameter(f"{scenarios} is not a file", param_hint="--scenarios")
    failed = False
    with opened(scenarios) as lines:
        for each in answers(lines, explain=explain):
            failed = failed or "error" in each
            print(json.dumps(each))
    if strict and failed:
        raise typer.Exit(1)


def opened(scenarios: str) -> AbstractContextManager[Iterable[bytes]]:
    """Return the lines as bytes: only a line feed ends one, and one that is not UTF-8 spoils no other."""
    if scenarios == "-":
        return nullcontext(sys.stdin.buffer)
    try:
        return Path(scenarios).open("rb")
    except OSError as error:
        raise FinetuneError(f"{scenarios} cannot be read: {error.strerror}") from error


def answers(lines: Iterable[bytes], *, explain: bool) -> Iterator[dict[str, Any]]:
    """Yield the answer to each line that is not blank."""
    for number, line in enumerate(lines, start=1):
        try:
            text = line.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            yield {"id": f"line {number}", "error": f"not UTF-8 (byte {error.start}): save the file as UTF-8"}
            continue
        if text.strip():
            yield answer(text, number, explain=explain)


def answer(line: str, number: int, *, explain: bool) -> dict[str, Any]:
    """Return the estimate of a line, or its id with what is wrong."""
    try:
        name, scenario = scenario_of(line)
    except ScenarioInvalid as error:
        return {"id": id_of(line) or f"line {number}", "error": str(error)}
    found = estimate(scenario)
    sizes = {
        "allocatedGiB": found.allocated_gib, "reservedGiB": found.reserved_gib, "cardGiB": found.card_gib,
        "requestGiB": found.request_gib,
    }  # fmt: skip
    result: dict[str, Any] = {"id": name, **{key: round(value, 3) for key, value in sizes.items()}}
    return {**result, **explanation(found)} if explain else result


def explanation(found: MemoryEstimate) -> dict[str, Any]:
    """Return the terms, which add up to cardGiB."""
    return {
        "terms": {term: round(getattr(found, f"{term}_gib"), 3) for term in TERMS},
        "phase": found.phase,
        "margin": found.margin,
        "confidence": found.confidence,
        "confidenceReason": found.confidence_reason,
    }


def id_of(line: str) -> str:
    """Return the id of a line that cannot be used otherwise; empty where it has none."""
    try:
        name = object_of(line).get("id")
    except ScenarioInvalid:
        return ""
    return name if isinstance(name, str) else ""
