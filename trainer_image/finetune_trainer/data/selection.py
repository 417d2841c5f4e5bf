"""Which rows are trained, how often, and which are held out. Decided from row hashes alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from finetune_contract import Dataset, Evaluation

Hashes = np.ndarray[Any, np.dtype[np.uint64]]
Counts = np.ndarray[Any, np.dtype[np.int32]]
Flags = np.ndarray[Any, np.dtype[np.bool_]]

HELD_OUT_FLOOR = 20
"""Fewer held-out rows than this say nothing: the standard error of a mean loss is then a quarter of its spread."""

LARGEST_HELD_OUT_SHARE = 0.2
"""The floor never takes more than this share of a small data set away from training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """For each data set and each of its rows: how many copies are trained, and whether it is held out."""

    copies: tuple[Counts, ...]
    held_out: tuple[Flags, ...]
    duplicates: int
    repeated: tuple[float, ...]
    """How often a row of each data set is seen in an epoch, on average; 1.0 without a mixture."""
    leaked: int = 0
    """Training rows left out because they are in data that is only measured on."""


def select(
    hashes: Sequence[Hashes],
    datasets: Sequence[Dataset],
    evaluation: Evaluation,
    seed: int,
    *,
    kept_out: Sequence[Hashes] = (),
    hold: bool = True,
) -> Selection:
    """Choose rows: drop exact duplicates, hold rows out by hash, then sample each data set, then mix by weight.

    `kept_out` are the hashes of data that is only measured on: these rows are not trained. Without `hold` none are held out.
    """
    whole = _first_occurrences(hashes)
    duplicates = sum(len(part) for part in hashes) - sum(int(part.sum()) for part in whole)
    kept = whole
    for measured in kept_out:
        kept = [part & ~np.isin(own, measured) for part, own in zip(kept, hashes, strict=True)]
    leaked = sum(int(part.sum()) for part in whole) - sum(int(part.sum()) for part in kept)
    held = _held_out(hashes, kept, evaluation, hold=hold)
    free = [part & ~out for part, out in zip(kept, held, strict=True)]
    sampled = [
        _sample(part, own, dataset.max_examples, seed)
        for part, own, dataset in zip(free, hashes, datasets, strict=True)
    ]
    copies = _mixed(sampled, hashes, [dataset.weight for dataset in datasets], seed)
    repeated = tuple(float(number.sum() / max(1, part.sum())) for number, part in zip(copies, sampled, strict=True))
    return Selection(
        copies=tuple(copies), held_out=tuple(held), duplicates=duplicates, repeated=repeated, leaked=leaked
    )


def held_out_count(rows: int, evaluation: Evaluation) -> int:
    """Return how many of `rows` are held out: the fraction, at least the floor, at most what was allowed."""
    if evaluation.fraction <= 0:
        return 0
    floor = min(HELD_OUT_FLOOR, int(rows * LARGEST_HELD_OUT_SHARE))
    return min(max(round(rows * evaluation.fraction), floor), evaluation.max_examples)


def smallest(hashes: Hashes, flags: Flags, count: int) -> Flags:
    """Return the flags of the `count` flagged rows with the smallest hashes."""
    chosen = np.zeros(len(flags), dtype=bool)
    (rows,) = np.nonzero(flags)
    chosen[rows[np.argsort(hashes[rows], kind="stable")[:count]]] = True
    return chosen


def mixed_order(hashes: Hashes, seed: int) -> Hashes:
    """Return hashes in another random order, the same for the same seed (the finaliser of splitmix64)."""
    value = hashes + np.uint64((0x9E3779B97F4A7C15 * (seed + 1)) % 2**64)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def _first_occurrences(hashes: Sequence[Hashes]) -> list[Flags]:
    whole = np.concatenate(hashes) if hashes else np.zeros(0, dtype=np.uint64)
    first = np.zeros(len(whole), dtype=bool)
    first[np.unique(whole, return_index=True)[1]] = True
    return _parted(first, hashes)


def _held_out(hashes: Sequence[Hashes], kept: Sequence[Flags], evaluation: Evaluation, *, hold: bool) -> list[Flags]:
    flags = np.concatenate(kept)
    count = held_out_count(int(flags.sum()), evaluation) if hold else 0
    return _parted(smallest(np.concatenate(hashes), flags, count), hashes)


def _sample(flags: Flags, hashes: Hashes, max_examples: int, seed: int) -> Flags:
    return smallest(mixed_order(hashes, seed), flags, max_examples) if max_examples else flags


def _mixed(sampled: Sequence[Flags], hashes: Sequence[Hashes], weights: Sequence[float], seed: int) -> list[Counts]:
    """Return copies per row: each data set gets its share of an epoch as long as all rows together."""
    if not any(weights):
        return [flags.astype(np.int32) for flags in sampled]
    shares = np.array([weight or 1.0 for weight in weights], dtype=np.float64)
    shares *= [bool(flags.any()) for flags in sampled]
    total = sum(int(flags.sum()) for flags in sampled)
    wanted = np.round(total * shares / max(shares.sum(), 1e-12)).astype(int)
    return [_copies(flags, own, int(count), seed) for flags, own, count in zip(sampled, hashes, wanted, strict=True)]


def _copies(flags: Flags, hashes: Hashes, count: int, seed: int) -> Counts:
    rows = int(flags.sum())
    if not rows:
        return flags.astype(np.int32)
    whole, rest = divmod(count, rows)
    return flags.astype(np.int32) * whole + smallest(mixed_order(hashes, seed), flags, rest).astype(np.int32)


def _parted(flags: Flags, hashes: Sequence[Hashes]) -> list[Flags]:
    return np.split(flags, np.cumsum([len(part) for part in hashes])[:-1]) if hashes else []
