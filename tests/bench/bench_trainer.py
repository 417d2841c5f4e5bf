"""Our trainer against a plain TRL script with the same settings: `python -m tests.bench.bench_trainer [PAIRS]`.

Pairs of real processes, interleaved so that a busy machine slows both. Prints the median ratio (ours / plain) and its spread of
steps per second, peak RSS and time to the first step, and the import time of the contract. Targets: at least 0.97, at most
1.05, at most 1.1, under 50 ms.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from finetune_trainer.contract import parse_outcome
from finetune_trainer.wire import dumps

from tests.trainer.tiny import a_run, conversations, tiny_model

STEPS = 120
SHAPE = {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 6, "max_position_embeddings": 256}
"""Large enough that a step is arithmetic, not bookkeeping: some 60 ms."""

PLAIN = """
import json, os, resource, sys, time
started = float(sys.argv[1]); model, data, out, steps = sys.argv[2:6]
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer

class Clock(TrainerCallback):
    def on_step_end(self, args, state, control, **_):
        if state.global_step == 1:
            self.first = time.time()
    def on_log(self, args, state, control, logs, **_):
        if "loss" in logs:
            self.last = time.time()

clock = Clock()
tokenizer = AutoTokenizer.from_pretrained(model)
rows = [json.loads(line) for line in open(data)]
trainer = SFTTrainer(
    model=model,
    args=SFTConfig(output_dir=out, max_steps=int(steps), per_device_train_batch_size=4, learning_rate=5e-3, bf16=False,
        use_cpu=True, gradient_checkpointing=False, logging_steps=1, save_strategy="no", report_to="none", max_length=64,
        assistant_only_loss=True, disable_tqdm=True, model_init_kwargs={"dtype": "float32"}, dataloader_pin_memory=False),
    train_dataset=Dataset.from_list(rows), processing_class=tokenizer, callbacks=[clock],
    peft_config=LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM"),
)
trainer.train()
trainer.save_model(out)
rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print("RESULT " + json.dumps([(int(steps) - 1) / (clock.last - clock.first), rss / 2**20, clock.first - started]))
"""


@dataclass(frozen=True)
class Figures:
    """One run."""

    steps_per_second: float
    peak_rss_gib: float
    first_step_seconds: float


def plain(model: Path, data: Path, folder: Path) -> Figures:
    """Run the script that a practitioner would write."""
    command = [sys.executable, "-c", PLAIN, str(time.time()), str(model), str(data), str(folder / "plain"), str(STEPS)]
    said = subprocess.run(command, env=_environment(folder), capture_output=True, text=True, check=True).stdout
    (line,) = re.findall(r"^RESULT (.*)$", said, re.MULTILINE)
    return Figures(*json.loads(line))


def ours(model: Path, data: Path, folder: Path) -> Figures:
    """Run our container's command: entry process, worker, no evaluation, as the plain script has none."""
    run = a_run(
        folder, model=model, data=data, max_steps=STEPS, baseline=False, prompts=(), fraction=0.0, max_examples=0
    )
    (folder / "run.json").write_text(dumps(run))
    started, first = time.time(), 0.0
    command = [sys.executable, "-m", "finetune_trainer", "train"]
    with subprocess.Popen(command, env=_environment(folder), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if not first and '"phase":"training","step":1,' in line:
                first = time.time()
    outcome = parse_outcome(lines[-1])
    assert outcome is not None, "".join(lines)
    assert outcome.outcome == "Succeeded", outcome.message
    assert outcome.training_seconds
    assert outcome.peak_memory_gib
    return Figures((STEPS - 1) / outcome.training_seconds, outcome.peak_memory_gib, first - started)


def _environment(folder: Path) -> dict[str, str]:
    workspace = folder / "workspace"
    workspace.mkdir(parents=True, exist_ok=True)
    return os.environ | {
        "OMP_NUM_THREADS": "1", "FINETUNE_DEVICE": "cpu", "FINETUNE_ALLOW_FILE": "1",
        "FINETUNE_RUN_CONFIG": str(folder / "run.json"), "FINETUNE_WORKSPACE": str(workspace),
    }  # fmt: skip


def contract_import_milliseconds() -> float:
    """Return the median time that importing the contract adds to a bare interpreter."""

    def timed(code: str) -> float:
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - started

    pairs = [(timed("import finetune_trainer.contract"), timed("pass")) for _ in range(11)]
    return 1000 * statistics.median(with_it - without for with_it, without in pairs)


def main(pairs: int) -> None:
    """Run the pairs, alternating which comes first, and print the ratios."""
    print(f"import of finetune_trainer.contract: {contract_import_milliseconds():.0f} ms (target < 50)")
    measured: list[tuple[Figures, Figures]] = []
    with tempfile.TemporaryDirectory() as scratch:
        model = tiny_model(Path(scratch) / "model", "llama", **SHAPE)
        data = conversations(Path(scratch) / "train.jsonl", rows=600, longest=30)
        for number in range(pairs):
            folder = Path(scratch) / str(number)
            folder.mkdir()
            if number % 2:
                mine, theirs = ours(model, data, folder), plain(model, data, folder)
            else:
                theirs, mine = plain(model, data, folder), ours(model, data, folder)
            measured.append((mine, theirs))
            print(f"pair {number + 1}: ours {mine}, plain {theirs}", flush=True)
    for name, target in (
        ("steps_per_second", ">= 0.97"),
        ("peak_rss_gib", "<= 1.05"),
        ("first_step_seconds", "<= 1.1"),
    ):
        ratios = sorted(getattr(mine, name) / getattr(theirs, name) for mine, theirs in measured)
        print(
            f"{name}: median ratio {statistics.median(ratios):.3f} ({ratios[0]:.3f} .. {ratios[-1]:.3f}), target {target}"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
