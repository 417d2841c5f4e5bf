"""Tokens per second, model FLOP utilisation and padding of real runs: counted by hand from the batches."""

from pathlib import Path

import pytest
from finetune_trainer.runtime.speed import Padding, Speed, StepClock, speed_of

from tests.trainer.running import IN_PROCESS, carried_out
from tests.trainer.tiny import a_run, changed, conversations, tiny_model

pytestmark = IN_PROCESS


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return conversations(tmp_path_factory.mktemp("data") / "train.jsonl", rows=60)


def test_the_share_of_padding_is_that_of_the_batches(tmp_path: Path, llama: Path, data: Path) -> None:
    """Evaluations and samples run the same model and do not count; on a CPU there is no utilisation."""
    run = a_run(tmp_path, model=llama, data=data)
    session, outcome = carried_out(run, tmp_path)
    masks = [batch["attention_mask"] for batch in session.loop.trainer.get_train_dataloader()]
    positions, tokens = sum(mask.numel() for mask in masks), sum(int(mask.sum()) for mask in masks)

    assert 0.01 < 1 - tokens / positions < 0.9
    assert outcome.padding_share == round(1 - tokens / positions, 4)
    assert outcome.model_flop_utilisation is None
    assert outcome.tokens_per_second is not None


def test_packed_rows_have_no_padding(tmp_path: Path, llama: Path, data: Path) -> None:
    """They are flattened, so every position is a token. With a peak to compare with, the utilisation follows from the speed."""
    run = changed(a_run(tmp_path, model=llama, data=data, packing=True), flops_per_token=1000, peak_tflops_per_gpu=1e-6)
    session, outcome = carried_out(run, tmp_path)
    rate = session.loop.clock.tokens_per_second
    assert rate is not None

    assert (outcome.padding_share, outcome.model_flop_utilisation) == (0.0, round(rate * 1000 / 1e6, 4))


def test_nothing_is_known_before_the_second_step(tmp_path: Path) -> None:
    """The first step compiles and warms up, so it is not measured."""
    run = a_run(tmp_path, model=tmp_path, data=tmp_path)

    assert speed_of(StepClock(), Padding(), run.layout) == Speed(
        tokens_per_second=None, model_flop_utilisation=None, padding_share=None
    )
