"""Score the memory model on the published readings, per source, with the peers beside it: `make bench`.

python tests/bench/bench_vram.py
"""

import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))


from tests.bench.vram_peers import PEERS, Peer
from tests.bench.vram_rows import SOURCES, Cards, Reading, Score, cards, others, ours, readings, refitted, score


def peer_score(peer: Peer) -> Score:
    """Score a peer on the readings it answers."""
    answers = ((reading, peer(reading.scenario)) for reading in readings())
    return score((reading, figure) for reading, figure in answers if figure is not None)


def line(name: str, found: Score) -> str:
    """Write one row of the table."""
    sources = " ".join(f"{percent(found.by_source.get(source)):>8}" for source in SOURCES.values())
    return (
        f"{name:<28}{found.rows:>5}{percent(found.median):>9}{percent(found.ninth_decile):>9}"
        f"{percent(found.bias):>9}{percent(found.balanced):>10}   {sources}"
    )


def percent(value: float | None) -> str:
    """Write a share."""
    return "" if value is None else f"{100 * value:.1f}%"


def card_line(name: str, found: Cards) -> str:
    """Write one row of the table of cards."""
    return f"{name:<28}{percent(found.right):>8}{percent(found.too_small):>11}{percent(found.too_big):>9}"


def markdown() -> list[str]:
    """Return both tables as docs/vram-model.md shows them."""
    scores = {
        name: (peer_score(peer), cards(lambda row, peer=peer: peer(row.scenario))) for name, peer in PEERS.items()
    }
    scores["**this planner**"] = (ours(), cards(our_figure))
    scores["**this planner, with margin**"] = (ours(), cards(our_figure, margin=True))
    heads = [
        "| estimator | rows | median | P90 | balanced | right card | too small | too big |",
        "|---|---|---|---|---|---|---|---|",
    ]
    return heads + [
        f"| {name} | {found.rows} | {percent(found.median)} | {percent(found.ninth_decile)} | {percent(found.balanced)} "
        f"| {percent(chosen.right)} | {percent(chosen.too_small)} | {percent(chosen.too_big)} |"
        for name, (found, chosen) in scores.items()
    ]


def other_markdown() -> list[str]:
    """Return the table of other stacks as docs/vram-model.md shows it."""
    found = score((reading, our_figure(reading)) for reading in others())
    counts = Counter(reading.source for reading in others())
    heads = ["| other stacks | rows | median | bias |", "|---|---|---|---|"]
    rows = []
    for source, median in found.by_source.items():
        one = score((reading, our_figure(reading)) for reading in others() if reading.source == source)
        rows.append(f"| {source} | {counts[source]} | {percent(median)} | {one.bias:+.1%} |")
    plain, safe = cards(our_figure, among=others()), cards(our_figure, margin=True, among=others())
    return [
        *heads, *rows,
        f"| all: P90 {percent(found.ninth_decile)}, balanced {percent(found.balanced)}, right card {percent(plain.right)}, "
        f"too small with margin {percent(safe.too_small)} | {found.rows} | {percent(found.median)} | {found.bias:+.1%} |",
    ]  # fmt: skip


def our_figure(reading: Reading) -> float:
    """Return our figure for what was read."""
    return reading.of(reading.found)


def held_out(source: str) -> Score:
    """Score one source with constants refitted on the others."""
    return ours(refitted(source), lambda reading: reading.source == source)


def main() -> None:
    """Print both tables."""
    heads = " ".join(f"{name.split()[0][:8]:>8}" for name in SOURCES.values())
    print(f"{'':<28}{'rows':>5}{'median':>9}{'P90':>9}{'bias':>9}{'balanced':>10}   {heads}")
    for name, peer in PEERS.items():
        print(line(name, peer_score(peer)))
    print(line("this planner", ours()))
    medians = {source: held_out(source).median for source in SOURCES.values()}
    print(line("  a source left out, refitted", Score(len(readings()), 0, 0, 0, medians)).replace("0.0%", "    ", 3))
    print(f"\n{'card chosen':<28}{'right':>8}{'too small':>11}{'too big':>9}")
    for name, peer in PEERS.items():
        print(card_line(name, cards(lambda reading, peer=peer: peer(reading.scenario))))
    print(card_line("this planner", cards(our_figure)))
    print(card_line("this planner, with margin", cards(our_figure, margin=True)))
    print("\nstacks that nothing is fitted on\n" + "\n".join(other_markdown()))


if __name__ == "__main__":
    if "--markdown" in sys.argv:
        print("\n".join((*markdown(), "", *other_markdown())))
    else:
        main()
