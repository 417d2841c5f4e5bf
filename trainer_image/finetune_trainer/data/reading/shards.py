"""Numbered files: `train-00000-of-00003.parquet` says how many there are, so one that is missing can be named."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from finetune_trainer.errors import UserError

SHARD = re.compile(r"(?P<prefix>.*?)(?P<number>\d+)(?P<of>[-_.]of[-_.])(?P<total>\d+)(?P<suffix>[^/]*)")
"""The suffix may begin with a hash of that one file, so it does not tell sets of files apart."""

NAMED_SHARDS = 3
"""So many missing files a message names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Files of one numbered set that are not there."""

    prefix: str
    total: int
    missing: tuple[str, ...]

    def __str__(self) -> str:
        """`lacks 1 of the 3 files train-*: train-00001-of-00003.parquet`."""
        more = f" and {len(self.missing) - NAMED_SHARDS} more" if len(self.missing) > NAMED_SHARDS else ""
        named = f"{', '.join(self.missing[:NAMED_SHARDS])}{more}"
        return f"lacks {len(self.missing)} of the {self.total} files {self.prefix}*: {named}"


def refuse_gaps(uri: str, paths: Iterable[str]) -> None:
    """Raise UserError(DatasetInvalid) where a folder lacks files of a numbered set."""
    gap = next(gaps(paths), None)
    if gap:
        raise UserError(
            "DatasetInvalid",
            f"{uri} {gap}. Copy the missing files; to train on those that are there, set source to "
            f"{uri.rstrip('/')}/{gap.prefix}*",
        )


def gap_warnings(uri: str, paths: Iterable[str]) -> tuple[str, ...]:
    """Say which files of a numbered set are not among those that the job names."""
    remedy = "Add them unless you left them out on purpose"
    if uri.startswith("hf://"):
        remedy = "The repository may be incomplete: training uses the files that are there; ask its owner, or set datasets[].revision"
    return tuple(f"{uri} {gap}. {remedy}" for gap in gaps(paths))


def gaps(paths: Iterable[str]) -> Iterator[Gap]:
    """Yield what is missing of each numbered set; numbers begin at 0, or at 1 where the last one is there and 0 is not."""
    sets: dict[tuple[str, str], dict[int, re.Match[str]]] = {}
    for path in paths:
        if found := SHARD.fullmatch(path):
            sets.setdefault((found["prefix"], found["total"]), {})[int(found["number"])] = found
    for (prefix, count), shards in sets.items():
        total, one = int(count), next(iter(shards.values()))
        first = 1 if total in shards and 0 not in shards else 0
        suffixes = {shard["suffix"] for shard in shards.values()}
        suffix = one["suffix"] if len(suffixes) == 1 and len(shards) > 1 else ""
        missing = tuple(
            f"{prefix}{number:0{len(one['number'])}}{one['of']}{count}{suffix}"
            for number in range(first, first + total)
            if number not in shards
        )
        if missing:
            yield Gap(prefix=prefix, total=total, missing=missing)
