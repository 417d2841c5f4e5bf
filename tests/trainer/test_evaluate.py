"""Measurements are exact, whatever the batches; early stopping keeps its patience and the best weights."""

import json
from pathlib import Path

import pytest
import torch
from finetune_trainer.training import evaluate
from finetune_trainer.training.patience import Patience
from finetune_trainer.training.train import prepare
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from tests.trainer.running import IN_PROCESS, bench, carried_out, local_node, losses, stopped_at
from tests.trainer.tiny import a_run, changed, conversations, tiny_model, tiny_tokenizer

pytestmark = IN_PROCESS


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return conversations(tmp_path_factory.mktemp("data") / "train.jsonl", rows=60, longest=30)


@pytest.mark.parametrize("micro_batch_size", [1, 4])
def test_the_loss_is_the_mean_over_trained_tokens(
    tmp_path: Path, llama: Path, data: Path, micro_batch_size: int
) -> None:
    """As computed by hand from the logits of the untouched base model, row by row."""
    run = a_run(tmp_path, model=llama, data=data, micro_batch_size=micro_batch_size)
    with local_node(tmp_path):
        session = prepare(run, bench(tmp_path, run))
        with evaluate.without_adapter(session.loop.trainer):
            measured = evaluate.measure(session.loop.trainer, session.rows.evaluation, keep_going=lambda: True)
    plain, total, right, tokens = AutoModelForCausalLM.from_pretrained(llama).eval(), 0.0, 0, 0
    for row in session.rows.evaluation:
        labels = torch.tensor(row["labels"])[1:]
        with torch.no_grad():
            logits = plain(torch.tensor([row["input_ids"]])).logits[0, :-1][labels != -100]
        wanted = labels[labels != -100]
        total += float(torch.nn.functional.cross_entropy(logits, wanted, reduction="sum"))
        right += int((logits.argmax(-1) == wanted).sum())
        tokens += len(wanted)

    assert measured is not None
    assert measured.loss == pytest.approx(total / tokens, abs=1e-5)
    assert measured.token_accuracy == pytest.approx(right / tokens)
    assert measured.perplexity == pytest.approx(2.718281828 ** (total / tokens), rel=1e-4)


def test_a_measurement_can_be_cut_short(tmp_path: Path, llama: Path, data: Path) -> None:
    """Between two batches, so that a notice of seconds is enough to save."""
    run = a_run(tmp_path, model=llama, data=data)
    with local_node(tmp_path):
        session = prepare(run, bench(tmp_path, run))
        assert evaluate.measure(session.loop.trainer, session.rows.evaluation, keep_going=lambda: False) is None


def test_patience_counts_evaluations_without_improvement() -> None:
    """Two that are not better by min_delta stop the run; an improvement starts the count again."""
    start = Patience()
    better = start.after(5, 2.0, min_delta=0.1, patience=2)
    worse = better.after(10, 1.95, min_delta=0.1, patience=2)
    stopped = worse.after(15, 2.5, min_delta=0.1, patience=2)

    assert better == Patience(evaluated_step=5, best_loss=2.0)
    assert worse == Patience(evaluated_step=10, best_loss=2.0, worse=1)
    assert stopped == Patience(evaluated_step=15, best_loss=2.0, worse=2, stopped=True)
    assert worse.after(15, 1.5, min_delta=0.1, patience=2) == Patience(evaluated_step=15, best_loss=1.5)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_early_stopping_survives_preemption_and_publishes_the_best_weights(
    tmp_path: Path, llama: Path, data: Path, method: str
) -> None:
    """A run that never improves by min_delta stops after two more evaluations, preempted in between or not."""
    changes = {
        "method": method, "max_steps": 30, "every_steps": 3, "early_stopping_patience": 2, "early_stopping_min_delta": 9.0,
        "prompts": (),
    }  # fmt: skip
    whole_run = a_run(tmp_path / "whole", model=llama, data=data, **changes)
    _session, whole = carried_out(whole_run, tmp_path / "whole")
    cut = a_run(tmp_path / "cut", model=llama, data=data, **changes)
    stopped = stopped_at(cut, tmp_path / "cut", step=7)
    _session, resumed = carried_out(changed(cut, attempt=1), tmp_path / "cut" / "again")

    assert (whole.step, stopped.step, resumed.step) == (9, 7, 9)
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    assert resumed.evaluation == whole.evaluation
    state = json.loads((tmp_path / "whole/out/.checkpoints/attempt-0-step-9/evaluation-state.json").read_text())
    assert state["best_slot"] == "best-attempt-0-step-3"
    assert whole.evaluation is not None
    assert whole.evaluation.tuned_loss == pytest.approx(state["best_loss"], abs=1e-5)
    folder, file = ("model", "model.safetensors") if method == "full" else ("adapter", "adapter_model.safetensors")
    published = load_file(tmp_path / "whole" / "out" / folder / file)
    best = load_file(tmp_path / "whole/out/.checkpoints/best-attempt-0-step-3" / file)
    assert all(torch.equal(value, best[name]) for name, value in published.items())


def test_the_general_text_is_plain_and_long_enough() -> None:
    """Some 2,500 characters; every token of it counts."""
    rows = evaluate.general_rows(tiny_tokenizer(), sequence_length=128)

    assert sum(len(row["input_ids"]) for row in rows) > 1000
    assert all(row["input_ids"] == row["labels"] and len(row["labels"]) <= 128 for row in rows)


def test_prompts_are_rendered_as_the_rows_were() -> None:
    """Chats through the template with the system prompt, plain text as it is."""
    tokenizer = tiny_tokenizer()
    chat = evaluate.prompt_ids("red cat", tokenizer, system="north", conversational=True)
    plain = evaluate.prompt_ids("red cat", tokenizer, system="", conversational=False)

    assert tokenizer.decode(chat) == (
        "<|im_start|>system\nnorth<|im_end|><|im_start|>user\nred cat<|im_end|><|im_start|>assistant\n"
    )
    assert tokenizer.decode(plain) == "red cat"
