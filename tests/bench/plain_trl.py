"""The script that a practitioner would write: TRL alone, with the settings of bench_trainer's run. Started by bench_trainer.

python -m tests.bench.plain_trl STARTED MODEL ROWS OUT STEPS: STARTED is when the process was asked for, in seconds since the
epoch; ROWS is a jsonl file in the order in which the steps read it. Prints one line of figures and one of losses.
"""

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

from datasets import Dataset
from peft import LoraConfig
from transformers import AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer


class Clock(TrainerCallback):
    """When the first and the last step ended, and what each of them lost."""

    def __init__(self) -> None:
        self.first = self.last = (0.0, 0.0)
        self.losses: list[float] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
        if "loss" in logs:
            self.losses.append(logs["loss"])
            self.last = time.time(), time.process_time()
            self.first = self.first if state.global_step > 1 else self.last


def main(started: float, model: str, rows: str, out: str, steps: int) -> None:
    """Train and print."""
    clock = Clock()
    tokenizer = AutoTokenizer.from_pretrained(model)
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=out, max_steps=steps, per_device_train_batch_size=4, learning_rate=5e-3, lr_scheduler_type="cosine",
            warmup_steps=round(0.1 * steps), seed=7, train_sampling_strategy="sequential", bf16=False, use_cpu=True,
            gradient_checkpointing=False, logging_steps=1, save_strategy="no", report_to="none", max_length=64,
            assistant_only_loss=True, disable_tqdm=True, model_init_kwargs={"dtype": "float32"},
            dataloader_pin_memory=False,
        ),
        train_dataset=Dataset.from_list([json.loads(line) for line in Path(rows).read_text().splitlines()]),
        processing_class=tokenizer,
        callbacks=[clock],
        peft_config=LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM"),
    )  # fmt: skip
    trainer.train()
    trainer.save_model(out)
    (begun, begun_cpu), (ended, ended_cpu) = clock.first, clock.last
    figures = {
        "steps_per_second": (steps - 1) / (ended - begun),
        "steps_per_cpu_second": (steps - 1) / (ended_cpu - begun_cpu),
        "peak_rss_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "first_step_seconds": begun - started,
        "first_step_cpu_seconds": begun_cpu,
    }
    print("FIGURES " + json.dumps(figures))
    print("LOSSES " + json.dumps(clock.losses))


if __name__ == "__main__":
    main(float(sys.argv[1]), *sys.argv[2:5], int(sys.argv[5]))
