"""Draw the plots of docs/vram-model.md into docs/images: `python tests/bench/plot_vram.py`."""

import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from finetune_operator.planning.memory.estimate import estimate
from finetune_operator.planning.memory.our_trainer import TrainerLayout, scenario_for
from finetune_operator.planning.models.catalogue import model_named
from finetune_operator.planning.pools.gpus import gpu
from tests.bench.vram_seeds import FULL, LORA, QLORA, zero3

from tests.bench.bench_vram import our_figure, peer_score
from tests.bench.vram_peers import PEERS
from tests.bench.vram_rows import SOURCES, cards, others, ours, readings

IMAGES = Path(__file__).parents[2] / "docs" / "images"
COLOURS = ("#4C72B0", "#DD8452", "#55A868", "#C44E52")
TERMS = (
    ("weights", "#4C72B0"), ("adapter", "#8172B3"), ("gradients", "#DD8452"), ("optimizer", "#C44E52"),
    ("activations", "#55A868"), ("logits", "#64B5CD"), ("gathers", "#CCB974"), ("slack", "#BBBBBB"),
    ("context", "#888888"),
)  # fmt: skip


def predicted_against_measured() -> None:
    """Scatter all readings, by source, with a band of ten per cent."""
    figure, axis = plt.subplots(figsize=(6.4, 5.6))
    axis.fill_between([2, 200], [1.8, 180], [2.2, 220], color="#EEEEEE", label="within 10 %")
    axis.plot([2, 200], [2, 200], color="#999999", linewidth=0.8)
    for source, colour in zip(SOURCES.values(), COLOURS, strict=True):
        rows = [reading for reading in readings() if reading.source == source]
        axis.scatter([row.measured_gib for row in rows], [our_figure(row) for row in rows], s=14, alpha=0.7,
                     color=colour, edgecolors="none", label=f"{source} ({len(rows)})")  # fmt: skip
    axis.scatter([row.measured_gib for row in others()], [our_figure(row) for row in others()], s=16, alpha=0.6,
                 color="#555555", marker="x", linewidths=0.9, label=f"stacks not fitted on ({len(others())})")  # fmt: skip
    axis.set(xscale="log", yscale="log", xlim=(2.5, 120), ylim=(2.5, 120))
    axis.set(xlabel="measured and published, GiB per GPU", ylabel="predicted, GiB per GPU")
    ticks = [3, 5, 10, 20, 40, 80]
    axis.set_xticks(ticks, [str(tick) for tick in ticks])
    axis.set_yticks(ticks, [str(tick) for tick in ticks])
    axis.minorticks_off()
    axis.set_title(f"362 readings: median error {ours().median:.1%}, nine in ten within {ours().ninth_decile:.0%}")
    axis.legend(frameon=False, loc="upper left")
    save(figure, "vram-predicted")


def error_by_peer() -> None:
    """Draw the median error, and the ninth decile as a line, for each estimator."""
    scores = {name: peer_score(peer) for name, peer in PEERS.items()} | {"this planner": ours()}
    names = sorted(scores, key=lambda name: -scores[name].median)
    figure, axis = plt.subplots(figsize=(7.6, 4.6))
    for index, name in enumerate(names):
        found = scores[name]
        mine = name == "this planner"
        reach = [100 * found.median, min(400, 100 * found.ninth_decile)]
        axis.barh(index, 100 * found.median, color="#55A868" if mine else "#4C72B0", height=0.6)
        axis.plot(reach, [index, index], color="#999999", linewidth=1)
        label = f"{found.median:.1%}" if mine else f"{found.median:.0%}"
        label += "" if found.rows == len(readings()) else f" ({found.rows} rows, full only)"
        axis.text(102 * found.median + 4, index + 0.33, label, va="center", fontsize=8)
    axis.set_yticks(range(len(names)), names)
    axis.set(xlim=(0, 420), xlabel="absolute error in per cent: bar median, line up to the ninth decile")
    axis.set_title("Each estimator as it documents itself, against 362 readings")
    save(figure, "vram-peers")


def card_chosen() -> None:
    """Draw how often each estimator picks the right card."""
    found = {name: cards(lambda row, peer=peer: peer(row.scenario)) for name, peer in PEERS.items()}
    found["this planner"] = cards(our_figure)
    found["this planner, with margin"] = cards(our_figure, margin=True)
    names = sorted(found, key=lambda name: found[name].right + (1 if name.startswith("this") else 0))
    figure, axis = plt.subplots(figsize=(7.6, 4.6))
    start = [0.0] * len(names)
    for part, colour, label in (
        ("right", "#55A868", "right card"), ("too_small", "#C44E52", "too small: the job dies"),
        ("too_big", "#CCB974", "too big: money wasted"),
    ):  # fmt: skip
        shares = [100 * getattr(found[name], part) for name in names]
        axis.barh(range(len(names)), shares, left=start, color=colour, label=label, height=0.66)
        start = [one + other for one, other in zip(start, shares, strict=True)]
    axis.set_yticks(range(len(names)), names)
    axis.set(xlim=(0, 100), xlabel="per cent of the measured jobs that it answers; cards of 16 to 180 GB")
    axis.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.4, 1.13), ncols=3)
    save(figure, "vram-cards")


LADDER: dict[str, tuple[tuple[str, TrainerLayout], ...]] = {
    "meta-llama/Llama-3.1-8B": (
        ("qlora, 1 GPU", QLORA), ("lora, 1 GPU", LORA), ("full, 2 GPUs", zero3(FULL, 2)),
        ("full, 4 GPUs", zero3(FULL, 4)), ("full, 8 GPUs", zero3(FULL, 8)),
    ),
    "meta-llama/Llama-3.1-70B": (
        ("qlora, 1 GPU", QLORA), ("lora, 2 GPUs", zero3(LORA, 2)), ("lora, 4 GPUs", zero3(LORA, 4)),
        ("lora, 8 GPUs", zero3(LORA, 8)), ("full, 8 GPUs", zero3(FULL, 8)), ("full, 16 GPUs", zero3(FULL, 16)),
        ("full, 32 GPUs", zero3(FULL, 32)),
    ),
}  # fmt: skip


CARDS = {"NVIDIA-L4": "24", "NVIDIA-L40S": "48", "NVIDIA-H100-80GB-HBM3": "80", "NVIDIA-H200": "141"}


def what_fits_where() -> None:
    """Stack the terms of each method and number of GPUs, with the cards as lines."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.4))
    for axis, (model, rungs) in zip(axes, LADDER.items(), strict=True):
        shape = model_named(model)
        assert shape is not None
        for index, (_, layout) in enumerate(reversed(rungs)):
            found = estimate(scenario_for(shape, replace(layout, sequence_length=4096)))
            left = 0.0
            for term, colour in TERMS:
                size = getattr(found, f"{term}_gib")
                axis.barh(index, size, left=left, color=colour, height=0.62, label=term if index == 0 else None)
                left += size
            axis.plot([found.request_gib] * 2, [index - 0.36, index + 0.36], color="black", linewidth=1.4)
        axis.set_yticks(range(len(rungs)), [name for name, _ in reversed(rungs)])
        top = axis.get_ylim()[1]
        for name, label in CARDS.items():
            known = gpu(name)
            assert known is not None
            axis.axvline(known.memory_gib, color="#444444", linestyle=":", linewidth=1)
            axis.text(known.memory_gib, top, f"{label} GB", ha="center", va="bottom", fontsize=8)
        axis.set(xlim=(0, 175), xlabel="GiB per GPU, one row of 4,096 tokens")
        axis.set_title(model.partition("/")[2], pad=18)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=9, frameon=False, fontsize=8)
    figure.subplots_adjust(bottom=0.2, wspace=0.3)
    save(figure, "vram-fits", tight=False)


def save(figure: plt.Figure, name: str, *, tight: bool = True) -> None:
    """Write a plot, small enough for a repository."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    if tight:
        figure.tight_layout()
    figure.savefig(IMAGES / f"{name}.png", dpi=110, metadata={"Software": None}, bbox_inches=None if tight else "tight")
    print(IMAGES / f"{name}.png")


if __name__ == "__main__":
    predicted_against_measured()
    error_by_peer()
    card_chosen()
    what_fits_where()
