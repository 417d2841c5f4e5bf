"""The published throughput readings as work and layouts of our own: for bench_throughput and its test."""

import csv
import statistics
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import finetune_operator.planning
from finetune_operator.api.plan import ModelArchitecture
from finetune_operator.api.pools import Interconnect
from finetune_operator.api.spec import FineTuneJobSpec
from finetune_operator.planning.gpus import gpu
from finetune_operator.planning.layouts import Layout, Rung, Work
from finetune_operator.planning.planner_gpus import speed_of
from finetune_operator.planning.throughput import Speed, tokens_per_second

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
    """A reading and what we predict for it, in tokens per second and GPU."""

    id: str
    stack: str
    source: str
    method: str
    setting: tuple[str, ...]
    """Everything but the method: rows that share it can be compared."""
    measured: float
    predicted: float

    @property
    def error(self) -> float:
        return self.predicted / self.measured - 1


def rows(*stacks: str) -> list[Row]:
    """Return the readings of the stacks that can be told apart from each other: length, GPU and sharding are known."""
    shapes = {shape["model"]: shape for shape in _read("throughput_models.csv")}
    readings = [reading for reading in _read("throughput.csv") if reading["stack"] in stacks]
    return [_row(reading, shapes[reading["model"]]) for reading in readings if reading["sequence_length"]]


def median_error(found: Iterable[Row]) -> float:
    return statistics.median(abs(row.error) for row in found)


def ratio_errors(found: Iterable[Row]) -> dict[tuple[str, str], list[float]]:
    """Return per pair of methods the errors of predicted speed ratios, one per setting in which both were measured."""
    settings: dict[tuple[str, ...], dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in found:
        settings[row.setting][row.method].append(row)
    errors = defaultdict(list)
    for methods in settings.values():
        for one, other in (("lora", "full"), ("qlora", "lora"), ("qlora", "full")):
            if one in methods and other in methods:
                measured, predicted = (
                    statistics.median(getattr(row, name) for row in methods[one])
                    / statistics.median(getattr(row, name) for row in methods[other])
                    for name in ("measured", "predicted")
                )
                errors[one, other].append(predicted / measured - 1)
    return errors


def _read(name: str) -> list[dict[str, str]]:
    with (DATA / name).open(newline="") as file:
        return list(csv.DictReader(file))


def _row(reading: dict[str, str], shape: dict[str, str]) -> Row:
    layout, gpus = _layout(reading), int(reading["gpus"])
    fast_links = "A100" in reading["gpu"] or "H100" in reading["gpu"]
    links = Interconnect(
        within_node="nvlink" if fast_links else "pcie", between_nodes="infiniband", between_nodes_gbps=1600
    )
    predicted = tokens_per_second(_work(reading, _architecture(shape), layout.method), layout, _speed(reading), links)
    setting = (
        "source", "model", "sequence_length", "micro_batch_size", "activation_checkpointing", "sharding", "gpus", "gpu",
    )  # fmt: skip
    return Row(
        id=reading["id"],
        stack=reading["stack"],
        source=reading["source"],
        method=reading["method"],
        setting=(*(reading[name] for name in setting), reading["reference"].split(" (row")[0]),
        measured=float(reading["tokens_per_second_per_gpu"]),
        predicted=predicted / gpus,
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
    training = SPEC.training.model_copy(update={"sequence_length": length})
    return Work(
        resolved=SPEC.model_copy(update={"training": training}), architecture=architecture, method=method, rows=1,
        mean_tokens=length, long_tokens=length, evaluation_rows=0, evaluation_tokens=1, model_bytes=0,
        batch_is_fixed=True,
        num_trainable_parameters=architecture.num_parameters if method == "full" else 40_000_000,
    )  # fmt: skip


def _architecture(shape: dict[str, str]) -> ModelArchitecture:
    return ModelArchitecture.model_validate(
        {
            "model_type": "reading",
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
