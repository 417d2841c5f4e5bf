"""The published throughput readings as work and layouts of our own: for bench_throughput and its test."""

import csv
import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import finetune_operator.planning
from finetune_operator.api.plan import ModelArchitecture
from finetune_operator.api.pools import Interconnect
from finetune_operator.api.spec import FineTuneJobSpec
from finetune_operator.planning.defaults import resolve
from finetune_operator.planning.layouts import Layout, Rung, Work
from finetune_operator.planning.pool_gpu import speed_of
from finetune_operator.planning.pools.gpus import gpu
from finetune_operator.planning.speed.constants import DEFAULT, Constants
from finetune_operator.planning.speed.step import Speed, tokens_per_second

from tests.unit.planning.planning_builders import a_preflight

DATA = Path(finetune_operator.planning.__file__).parent / "data"

CARDS = {
    "A100 40GB": "NVIDIA-A100-SXM4-40GB",
    "A100": "NVIDIA-A100-SXM4-80GB",
    "H100": "NVIDIA-H100-80GB-HBM3",
    "L40S": "NVIDIA-L40S",
    "RTX 4090": "NVIDIA-GeForce-RTX-4090",
    "RTX 3090": "NVIDIA-GeForce-RTX-3090",
    "RTX A6000": "NVIDIA-RTX-A6000",
}
"""Name in the catalogue, by the beginning of the GPU's name in the readings."""

OTHER_CARDS = {
    "RTX 6000 Ada": Speed(tflops=0.8 * 364, bandwidth_tbps=0.96),
    "A5000": Speed(tflops=0.8 * 111, bandwidth_tbps=0.77),
}
"""Cards that the catalogue does not have."""

METHODS = {"lora-embeddings": "lora", "qlora-gptq": "qlora"}
STAGES = {"none": 0, "zero2": 2, "zero3": 3, "zero3-offload": 3}

SPEC = FineTuneJobSpec.model_validate(
    {
        "model": {"source": "hf://org/model"},
        "datasets": [{"source": "s3://bucket/train.jsonl"}],
        "output": {"destination": "s3://bucket/out"},
        "training": {"packing": "never"},
    }
)


@dataclass(frozen=True)
class Row:
    """A reading, in tokens per second and GPU, and the run that was read."""

    id: str
    stack: str
    source: str
    method: str
    setting: tuple[str, ...]
    """Everything but the method: rows that share it can be compared."""
    measured: float
    work: Work
    layout: Layout
    speed: Speed
    links: Interconnect
    gpu: str

    def predicted_by(self, constants: Constants) -> float:
        return tokens_per_second(self.work, self.layout, self.speed, self.links, constants) / self.layout.gpus

    @cached_property
    def predicted(self) -> float:
        return self.predicted_by(DEFAULT)

    @property
    def error(self) -> float:
        return self.predicted / self.measured - 1


def rows(*stacks: str) -> list[Row]:
    """Return the readings of the stacks that can be told apart from each other: length, GPU and sharding are known."""
    readings = [reading for reading in _read("throughput.csv") if reading["stack"] in stacks]
    return [row_of(reading) for reading in readings if reading["sequence_length"]]


def median_error(found: Iterable[Row], constants: Constants = DEFAULT) -> float:
    return statistics.median(abs(row.predicted_by(constants) / row.measured - 1) for row in found)


@dataclass(frozen=True)
class Ratio:
    """How much faster one method was than another in one setting, and what we say."""

    methods: tuple[str, str]
    setting: tuple[str, ...]
    measured: float
    predicted: float

    @property
    def error(self) -> float:
        return self.predicted / self.measured - 1


PAIRS = (("lora", "full"), ("qlora", "lora"), ("qlora", "full"), ("qlora-gptq", "lora"))


def ratios(found: Iterable[Row]) -> list[Ratio]:
    """Return the ratio of every two methods in every setting in which both were measured."""
    settings: dict[tuple[str, ...], dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in found:
        settings[row.setting][row.method].append(row)
    return [
        Ratio(
            pair,
            setting,
            *(_median_ratio(methods[pair[0]], methods[pair[1]], name) for name in ("measured", "predicted")),
        )
        for setting, methods in settings.items()
        for pair in PAIRS
        if pair[0] in methods and pair[1] in methods
    ]


def _median_ratio(one: list[Row], other: list[Row], name: str) -> float:
    return statistics.median(getattr(row, name) for row in one) / statistics.median(getattr(row, name) for row in other)


GRID: dict[str, Sequence[float]] = {
    "utilisation": (0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95),
    "fast_share": (0.5, 0.6, 0.65, 0.7, 0.8, 0.9, 1.0),
    "traffic": (1.0, 1.5, 2.0, 2.5, 2.75, 3.0, 3.5, 4.0),
    "adapter_traffic": (3.0, 4.0, 5.0, 5.5, 6.0, 7.0),
    "uncast_adapter_share": (0.5, 0.75, 1.0),
    "dequantise_bytes": (2.5, 4.0, 5.0, 6.0, 8.0),
    "launch_seconds": (0.003, 0.004, 0.005, 0.006, 0.007),
    "full_launch_share": (0.5, 0.75, 1.0),
    "sharded_launch_seconds": (0.002, 0.004, 0.006, 0.008),
    "overlap": (0.0, 0.25, 0.5, 0.8, 1.0),
    "nvlink_gbps": (75.0, 100.0, 125.0, 150.0, 175.0, 200.0),
    "pcie_gbps": (4.0, 6.0, 8.0, 10.0, 12.0),
}
"""Values that a refit may choose."""

THEORY = Constants(
    utilisation=0.8, fast_share=1.0, traffic=2.0, adapter_traffic=4.0, uncast_adapter_share=1.0, dequantise_bytes=2.5,
    launch_seconds=0.004, full_launch_share=1.0, sharded_launch_seconds=0.004, overlap=1.0, nvlink_gbps=100.0,
    pcie_gbps=10.0,
)  # fmt: skip
"""Where a refit begins: what one would guess, not what all readings together taught."""

FITTED_ROWS = 25


@cache
def refitted(without: str, rounds: int = 4) -> Constants:
    """Refit the constants on all Hugging Face sources but one, by coordinate search from theory."""
    sources = defaultdict(list)
    for row in rows("hf"):
        if row.source != without:
            sources[row.source].append(row)
    chosen = [thinned(members) for members in sources.values()]
    best, lowest = THEORY, _loss(THEORY, chosen)
    for _ in range(rounds):
        for name, values in GRID.items():
            for value in values:
                tried = replace(best, **{name: value})
                if (loss := _loss(tried, chosen)) < lowest - 1e-6:
                    best, lowest = tried, loss
    return best


def thinned(members: list[Row]) -> list[Row]:
    """Take at most so many readings of a source, evenly: all of them teach no more, and the test must be quick."""
    return members[:: max(1, len(members) // FITTED_ROWS)]


def _loss(constants: Constants, sources: Iterable[list[Row]]) -> float:
    """Balance the sources; the mean, clipped, breaks ties that a median leaves."""
    errors = [[abs(math.log(row.predicted_by(constants) / row.measured)) for row in members] for members in sources]
    return statistics.mean(
        statistics.median(values) + 0.3 * statistics.mean(min(value, 0.4) for value in values) for values in errors
    )


def left_out_error(found: Iterable[Row]) -> float:
    """Return the median error with every row predicted by constants that were refitted without its source."""
    return statistics.median(abs(row.predicted_by(refitted(row.source)) / row.measured - 1) for row in found)


def runs_like_high(row: Row) -> bool:
    """Tell the rows that a plan would show with high confidence: dense, one node, on the GPU alone."""
    dense = not row.work.architecture.num_experts
    return dense and row.layout.replicas == 1 and row.layout.rung.offload == "none" and not row.speed.fast


def covered(found: Iterable[Row], low: float, high: float) -> float:
    """Return the share of readings whose measured time lies within a range of the predicted one."""
    inside = [low <= row.predicted / row.measured <= high for row in found]
    return sum(inside) / len(inside)


def _read(name: str) -> list[dict[str, str]]:
    with (DATA / name).open(newline="") as file:
        return list(csv.DictReader(file))


@cache
def _shapes() -> dict[str, dict[str, str]]:
    return {shape["model"]: shape for shape in _read("throughput_models.csv")}


def row_of(reading: dict[str, str]) -> Row:
    """Return a line of throughput.csv as a run of ours."""
    shape = _shapes()[reading["model"]]
    layout, gpus = _layout(reading), int(reading["gpus"])
    fast_links = "A100" in reading["gpu"] or "H100" in reading["gpu"]
    links = Interconnect(
        within_node="nvlink" if fast_links else "pcie", between_nodes="infiniband", between_nodes_gbps=1600
    )
    names = ("source", "model", "sequence_length", "micro_batch_size", "activation_checkpointing", "gpus", "gpu")
    # stage 1 or 2 on one GPU shards nothing
    sharding = reading["sharding"] if gpus > 1 else "none"
    return Row(
        id=reading["id"],
        stack=reading["stack"],
        source=reading["source"],
        method=reading["method"],
        setting=(*(reading[name] for name in names), sharding, reading["reference"].split(" (row")[0]),
        measured=float(reading["tokens_per_second_per_gpu"]),
        work=_work(reading, _architecture(shape), layout.method),
        layout=layout,
        speed=_speed(reading),
        gpu=reading["gpu"],
        links=links,
    )


def _layout(reading: dict[str, str]) -> Layout:
    gpus = int(reading["gpus"])
    replicas = max(1, gpus // 8)
    rung: Any = Rung(
        zero_stage=STAGES[reading["sharding"]],
        offload="all" if reading["sharding"] == "zero3-offload" and gpus > 1 else "none",
    )
    method: Any = METHODS.get(reading["method"], reading["method"])
    return Layout(
        method=method, replicas=replicas, gpus_per_replica=gpus // replicas, rung=rung,
        activation_checkpointing=reading["activation_checkpointing"] != "no",
        micro_batch_size=int(reading["micro_batch_size"] or 1), gradient_accumulation_steps=8,
    )  # fmt: skip


def _speed(reading: dict[str, str]) -> Speed:
    for name, speed in OTHER_CARDS.items():
        if name in reading["gpu"]:
            return speed
    entry = gpu(next(card for name, card in CARDS.items() if name in reading["gpu"]))
    assert entry is not None
    return speed_of(entry)


def _work(reading: dict[str, str], architecture: ModelArchitecture, method: Any) -> Work:
    length = int(reading["sequence_length"])
    preflight = a_preflight(sequence_length=length)
    return Work(
        resolved=resolve(SPEC, method=method, architecture=architecture, preflight=preflight),
        architecture=architecture, rows=1,
        mean_tokens=length, long_tokens=length, evaluation_rows=0, evaluation_tokens=1, model_bytes=0,
        batch_is_fixed=True,
        num_trainable_parameters=architecture.num_parameters if method == "full" else 40_000_000,
        attention="eager" if reading["model"].startswith("gpt-oss") else "sdpa",
        casts_inputs=method == "lora",
    )  # fmt: skip


def _architecture(shape: dict[str, str]) -> ModelArchitecture:
    return ModelArchitecture.model_validate(
        {
            "model_type": "llama4_text" if shape["model"].startswith("llama-4") else "reading",
            "num_parameters": shape["parameters"],
            "num_embedding_parameters": shape["embedding_parameters"],
            "num_active_parameters": shape["active_parameters"],
            "hidden_size": shape["hidden_size"],
            "intermediate_size": shape["intermediate_size"],
            "num_layers": shape["layers"],
            "num_attention_heads": shape["attention_heads"],
            "num_key_value_heads": shape["key_value_heads"],
            "head_dim": shape["head_dim"],
            "vocab_size": shape["vocab_size"],
            "max_position_embeddings": 0,
            "tied_embeddings": shape["tied"] == "yes",
            "num_experts": shape["experts"],
            "experts_per_token": shape["experts_per_token"],
            "config": "",
        }
    )
