"""lora, qlora and full against the base model, on the real SmolLM2-135M-Instruct: `python -m tests.bench.compare_methods`.

The task is the sentiment of short made-up sentences, half of them negated; no adjective of the held-out rows is among the
training rows. Each method gets the same rows, seed and steps through the container's own command, with the project's default
learning rate, and is asked the same held-out rows. Prints the table of docs/methods.md; takes about eleven CPU minutes.
"""

import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from finetune_contract import Dataset, EvaluationResult, Location, Outcome, RunConfig, parse_outcome
from finetune_contract.wire import dumps
from finetune_operator.planning.defaults import learning_rate
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from demo.inputs import cache_folder
from demo.smollm2 import smollm2
from tests.trainer.tiny import A_LORA, a_run

STEPS, GLOBAL_BATCH, HELD_OUT_ROWS, SEED = 24, 8, 64, 7
PARAMETERS = 134_515_008

LABELS = ("positive", "negative")
INSTRUCTION = "Is it positive or negative?"
SUBJECTS = "soup film hotel book concert teacher phone garden song lecture bus picture".split()
FORMS = {
    False: ("The {subject} was {word}.", "How {word} the {subject} was!", "I found the {subject} {word}."),
    True: ("The {subject} was not {word}.", "The {subject} was hardly {word}.", "Nobody called the {subject} {word}."),
}
"""By whether the sentence turns its adjective round."""

TRAINED_WORDS = (
    "good lovely delightful brilliant pleasant charming superb enjoyable".split(),
    "bad horrible boring dreadful nasty disgusting poor annoying".split(),
)
HELD_OUT_WORDS = (
    "great wonderful excellent beautiful amazing".split(),
    "awful terrible ugly disappointing dull".split(),
)


@dataclass(frozen=True)
class Result:
    """One line of the table."""

    name: str
    right: float
    """share of rows whose right label is likelier than the wrong one"""
    said: float
    """share of rows whose right label is the likeliest token of all"""
    loss: float | None
    general_loss: float | None
    training_seconds: float | None = None
    cpu_seconds: float | None = None
    peak_rss_gib: float | None = None


def examples(words: tuple[list[str], list[str]], *, count: int, seed: int) -> list[dict[str, Any]]:
    """Make `count` different sentences with their labels, as conversations; the labels are balanced."""
    every = [
        (form.format(subject=subject, word=word), LABELS[kind ^ int(negated)])
        for negated, forms in FORMS.items()
        for form in forms
        for subject in SUBJECTS
        for kind, chosen in enumerate(words)
        for word in chosen
    ]
    rng = random.Random(seed)
    rng.shuffle(every)
    sides = [[pair for pair in every if pair[1] == label][: count // 2] for label in LABELS]
    pairs = [pair for side in sides for pair in side]
    rng.shuffle(pairs)
    return [{"messages": [*_question(text), {"role": "assistant", "content": label}]} for text, label in pairs]


def _question(text: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": text}]


def write(file: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows as jsonl."""
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def score(model: Any, tokenizer: PreTrainedTokenizerBase, rows: list[dict[str, Any]]) -> tuple[float, float]:
    """Return (right, said) of Result: the next token after each question is looked at."""
    tokens = [tokenizer.encode(label, add_special_tokens=False)[0] for label in LABELS]
    right = said = 0
    for row in rows:
        *question, answer = row["messages"]
        text = tokenizer.apply_chat_template(question, add_generation_prompt=True, tokenize=False)
        ids = torch.tensor([tokenizer.encode(text, add_special_tokens=False)])
        with torch.no_grad():
            logits = model(ids, logits_to_keep=1).logits[0, -1]
        wanted = LABELS.index(answer["content"])
        right += int(logits[tokens].argmax()) == wanted
        said += int(logits.argmax()) == tokens[wanted]
    return right / len(rows), said / len(rows)


def a_comparison(folder: Path, method: str, *, model: Path, train: Path, held_out: Path) -> RunConfig:
    """Return the run of one method: everything but the learning rate, and the adapter, is the same."""
    source = Dataset(location=Location(uri=f"file://{held_out}"))
    run = a_run(
        folder, model=model, data=train, method=method, max_steps=STEPS, global_batch_size=GLOBAL_BATCH,
        micro_batch_size=GLOBAL_BATCH, learning_rate=float(learning_rate("sft", method, PARAMETERS)),
        fraction=0.0, source=source, max_examples=HELD_OUT_ROWS, prompts=(), baseline=method == "lora",
    )  # fmt: skip
    return run if method == "full" else replace(run, lora=replace(A_LORA, rank=16, alpha=32))


def carried_out(run: RunConfig, folder: Path) -> tuple[Outcome, float]:
    """Run the container's command; returns its outcome and the CPU seconds that it took in all."""
    (folder / "run.json").write_text(dumps(run))
    environment = os.environ | {
        "OMP_NUM_THREADS": "1", "FINETUNE_DEVICE": "cpu", "FINETUNE_ALLOW_FILE": "1",
        "FINETUNE_RUN_CONFIG": str(folder / "run.json"), "FINETUNE_WORKSPACE": str(folder / "workspace"),
    }  # fmt: skip
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "finetune_trainer", "train"]
    said = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    outcome = parse_outcome(said.splitlines()[-1])
    if outcome is None or outcome.outcome != "Succeeded":
        raise RuntimeError(f"{run.method} failed:\n{said[-3000:]}")
    return outcome, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def results(scratch: Path) -> Iterator[Result]:
    """Measure the base, then each method."""
    folder = smollm2(cache_folder())
    train = write(scratch / "train.jsonl", examples(TRAINED_WORDS, count=STEPS * GLOBAL_BATCH, seed=SEED))
    rows = examples(HELD_OUT_WORDS, count=HELD_OUT_ROWS, seed=SEED)
    held_out = write(scratch / "held-out.jsonl", rows)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    base = _loaded(folder)
    asked = score(base, tokenizer, rows)
    for method in ("lora", "qlora", "full"):
        mine = scratch / method
        (mine / "workspace").mkdir(parents=True)
        outcome, cpu = carried_out(a_comparison(mine, method, model=folder, train=train, held_out=held_out), mine)
        evaluation = outcome.evaluation
        assert evaluation is not None
        if method == "lora":
            yield Result("base", *asked, evaluation.base_loss, evaluation.base_forgetting_loss)
        right, said = score(_tuned(mine, method, folder), tokenizer, rows)
        yield _line(method, right, said, evaluation, outcome, cpu)


def _line(method: str, right: float, said: float, evaluation: EvaluationResult, outcome: Outcome, cpu: float) -> Result:
    return Result(
        method, right, said, evaluation.tuned_loss, evaluation.tuned_forgetting_loss, outcome.training_seconds, cpu,
        outcome.peak_memory_gib,
    )  # fmt: skip


def _loaded(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def _tuned(folder: Path, method: str, base: Path) -> Any:
    """Load what was published. The adapter of qlora too is put on the unquantised base, as a server would."""
    if method == "full":
        return _loaded(folder / "out" / "model")
    return PeftModel.from_pretrained(_loaded(base), folder / "out" / "adapter").eval()


def main() -> None:
    """Print the table, line by line."""
    torch.set_num_threads(1)
    started = time.monotonic()
    print(
        "| | right label more likely | right label said | held-out loss | loss on a general text | training s | CPU s | peak RSS GiB |"
    )
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        for result in results(Path(scratch)):
            losses = " | ".join(f"{value:.3f}" for value in (result.loss, result.general_loss) if value is not None)
            cost = (result.training_seconds, result.cpu_seconds, result.peak_rss_gib)
            costs = " | ".join("" if value is None else f"{value:.1f}" for value in cost)
            print(f"| {result.name} | {result.right:.0%} | {result.said:.0%} | {losses} | {costs} |", flush=True)
    print(f"\n{time.monotonic() - started:.0f} s in all")


if __name__ == "__main__":
    main()
