"""`python -m finetune_trainer simulate run.json`: what loading and one training step of a run would take on a GPU, without one.

The libraries, the model code, the adapter, the loss and the optimizer are the real ones; the tensors have no values
(simulate_step). The result is simulated, never measured. Prints the peak by category and what is emulated.
"""

import argparse
import json
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from finetune_contract import RunConfig
from finetune_contract.run_file import read

from finetune_trainer.simulate.ledger import CATEGORIES, Peak

GIB = 2**30


def main(*arguments: str) -> int:
    """Simulate a run and print the result; returns the exit code."""
    given = parsed(arguments)
    for name, value in (("HF_HUB_OFFLINE", "1"), ("TRANSFORMERS_VERBOSITY", "error"), ("DS_ACCELERATOR", "cpu")):
        os.environ.setdefault(name, value)
    warnings.simplefilter("ignore")
    run = read(RunConfig, given.run.read_text(encoding="utf-8"))
    try:
        config = config_of(run, given.config)
        peak, loading = simulated(run, config), simulated_loading(run, config)
    except ValueError as error:
        print(f"simulate: {error}", file=sys.stderr)
        return 2
    print(json.dumps(record(peak, loading)) if given.json else page(run, peak, loading))
    return 0


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m finetune_trainer simulate", description=__doc__)
    parser.add_argument("run", type=Path, help="the run configuration, as the operator writes it")
    parser.add_argument(
        "--config", type=Path, help="the model's config.json; default: the one next to the model on a local path"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args(arguments)


def config_of(run: RunConfig, path: Path | None) -> Any:
    """Read the model's configuration; its weights are never looked at."""
    from transformers import AutoConfig  # noqa: PLC0415 - seconds; --help should not wait

    uri = run.model.location.uri
    if path is None and not uri.startswith("file://"):
        raise ValueError(f"the model is at {uri}: pass its config.json with --config")
    found = path or Path(uri.removeprefix("file://")) / "config.json"
    if not found.is_file():
        raise ValueError(f"there is no {found}: pass the model's config.json with --config")
    return AutoConfig.from_pretrained(found, trust_remote_code=run.model.trust_remote_code)


def simulated(run: RunConfig, config: Any) -> Peak:
    """Return the peak of one training step of a run, on rank 0. Raises ValueError for what is not simulated."""
    if run.layout.offload != "none":
        raise ValueError("offload is not simulated: host memory and GPU memory cannot be told apart here")
    if run.layout.zero_stage == 3 and run.lora is not None and run.lora.experts:
        raise ValueError("adapters on experts cannot be trained at ZeRO stage 3: PEFT needs whole experts")
    from finetune_trainer.simulate.step import step_peak  # noqa: PLC0415 - ten seconds of imports

    return step_peak(run, config)


def simulated_loading(run: RunConfig, config: Any) -> Peak:
    """Return the peak of loading the base model of a run, on rank 0."""
    from finetune_trainer.simulate.loading import load_peak  # noqa: PLC0415 - as above

    return load_peak(run, config)


def record(peak: Peak, loading: Peak) -> dict[str, Any]:
    """Return a peak as JSON values."""
    from finetune_trainer.simulate.kernels import EMULATED  # noqa: PLC0415

    parts = {name: round(peak.parts[name] / GIB, 4) for name in CATEGORIES}
    return {
        "simulated": True, "allocatedGiB": round(peak.total / GIB, 4), "peakBytes": peak.total, "parts": parts,
        "operation": peak.operation, "loadingGiB": round(loading.total / GIB, 4), "emulated": list(EMULATED),
    }  # fmt: skip


def page(run: RunConfig, peak: Peak, loading: Peak) -> str:
    """Return a peak as a table."""
    from finetune_trainer.simulate.kernels import EMULATED  # noqa: PLC0415

    layout = run.layout
    lines = [
        f"simulated, not measured: {run.method}, {layout.micro_batch_size} x {run.training.sequence_length} tokens, "
        f"accumulation {layout.gradient_accumulation_steps}, {layout.world_size} process(es), ZeRO {layout.zero_stage}",
        *(f"{name:>12}  {peak.parts[name] / GIB:9.3f} GiB" for name in CATEGORIES),
        f"{'allocated':>12}  {peak.total / GIB:9.3f} GiB at its peak, in {peak.operation}",
        f"{'loading':>12}  {loading.total / GIB:9.3f} GiB at its peak, before training",
        "On a real GPU, add the CUDA context, NCCL and the allocator's reserve.",
        "Emulated:",
        *(f"  - {item}" for item in EMULATED),
    ]
    return "\n".join(lines)
