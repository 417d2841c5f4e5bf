"""qlora with float32 against bfloat16 adapters, on SmolLM2-135M-Instruct: `python -m tests.bench.compare_adapter_dtypes`.

The task, rows and settings are those of compare_methods; three seeds of data and training each. Prints the table of
docs/decisions/0004-precision.md; takes about twenty CPU minutes.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from finetune_contract import EvaluationResult
from finetune_trainer.training.train import carry_out, prepare

from demo.inputs import cache_folder
from demo.smollm2 import smollm2
from tests.bench.compare_methods import (
    GLOBAL_BATCH,
    HELD_OUT_ROWS,
    HELD_OUT_WORDS,
    STEPS,
    TRAINED_WORDS,
    a_comparison,
    examples,
    write,
)
from tests.trainer.running import bench, local_node

SEEDS = (7, 8, 9)


def measured(folder: Path, *, seed: int, dtype: torch.dtype) -> EvaluationResult:
    """Train one adapter and measure it on the held-out rows."""
    (folder / "workspace").mkdir(parents=True)
    train = write(folder / "train.jsonl", examples(TRAINED_WORDS, count=STEPS * GLOBAL_BATCH, seed=seed))
    held_out = write(folder / "held-out.jsonl", examples(HELD_OUT_WORDS, count=HELD_OUT_ROWS, seed=seed))
    run = a_comparison(folder, "qlora", model=smollm2(cache_folder()), train=train, held_out=held_out)
    run = replace(run, training=replace(run.training, seed=seed))
    with local_node(folder / "workspace"):
        tools = bench(folder / "workspace", run)
        session = prepare(run, tools)
        for name, parameter in session.loop.trainer.model.named_parameters():
            if parameter.requires_grad and "lora_" in name:
                parameter.data = parameter.data.to(dtype)  # bfloat16 is what TRL leaves on a quantised base
        evaluation = carry_out(run, tools, session).evaluation
    assert evaluation is not None
    return evaluation


def main() -> None:
    """Print the table, line by line."""
    torch.set_num_threads(1)
    print("| seed | adapters | held-out loss | token accuracy | loss on a general text |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        for seed in SEEDS:
            for dtype in (torch.bfloat16, torch.float32):
                name = str(dtype).removeprefix("torch.")
                found = measured(Path(scratch) / f"{seed}-{name}", seed=seed, dtype=dtype)
                figures = (
                    f"{found.tuned_loss:.4f} | {found.tuned_token_accuracy:.1%} | {found.tuned_forgetting_loss:.4f}"
                )
                print(f"| {seed} | {name} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
