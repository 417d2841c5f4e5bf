"""Simulated training steps: the fixture is what the installed libraries do, and the command says what it emulates."""

import json
from pathlib import Path

import pytest
from finetune_contract.wire import dumps
from finetune_trainer.simulate import command as simulate
from transformers import AutoConfig

from tests.simulated.cases import Case, from_record, run_of

FIXTURE = Path(__file__).parents[1] / "data" / "simulated.jsonl"

pytestmark = [
    # Libraries warn of each other: transformers' renamed checkpointing, torch's fake tensors, paging on a CPU.
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def recorded() -> list[tuple[Case, int]]:
    """Return the cases of the fixture with their peaks in bytes."""
    records = [json.loads(line) for line in FIXTURE.read_text().splitlines()]
    return [(from_record(record["case"]), record["peakBytes"]) for record in records]


def cheapest_of_each_method() -> list[tuple[Case, int]]:
    """Return the smallest case of each method, and one at ZeRO-2: torch's own optimizer, which has no state outside."""
    plain = [one for one in recorded() if one[0].optimizer == "adamw"]
    plain.sort(key=lambda one: (one[0].layers * one[0].accumulation, one[1]))
    kinds = (("lora", 0), ("qlora", 0), ("full", 0), ("full", 2))
    return [next(one for one in plain if (one[0].method, one[0].zero_stage) == kind) for kind in kinds]


@pytest.mark.parametrize(
    ("case", "peak_bytes"), cheapest_of_each_method(), ids=lambda value: getattr(value, "method", "")
)
def test_simulating_again_gives_the_recorded_peak(case, peak_bytes):
    """A library that allocates otherwise than when the fixture was made is seen here; make the fixture again then."""
    values = case.config()

    peak = simulate.simulated(run_of(case), AutoConfig.for_model(values.pop("model_type"), **values))

    assert peak.total == peak_bytes
    assert sum(peak.parts.values()) == peak.total


def test_the_command_prints_categories_and_what_is_emulated(tmp_path, capsys):
    """Weights are exact, the sum is the peak, and nothing is called measured."""
    case = Case(model="smollm2-135m", layers=1, method="lora", precision="bf16", sequence_length=128)
    (tmp_path / "run.json").write_text(dumps(run_of(case)))
    (tmp_path / "config.json").write_text(json.dumps(case.config()))
    arguments = [str(tmp_path / "run.json"), "--config", str(tmp_path / "config.json")]

    assert simulate.main(*arguments, "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert simulate.main(*arguments) == 0
    page = capsys.readouterr().out

    weights = 2 * (49152 * 576 + 3_540_096 + 576)
    assert record["parts"]["weights"] == pytest.approx(weights / 2**30, abs=2e-4)
    assert record["simulated"] is True
    assert page.startswith("simulated, not measured: lora, 1 x 128 tokens, accumulation 1, 1 process(es), ZeRO 0")
    assert all(item in page for item in record["emulated"])


def test_4_bit_weights_at_zero_3_are_divided_as_they_are_stored(tmp_path, capsys):
    """Packed in 16-bit elements, of which every process has its share; the adapter's states are a few per cent of that."""
    peaks = []
    for gpus in (2, 8):
        case = Case(model="llama-3.2-1b", layers=1, method="qlora", zero_stage=3, gpus=gpus, sequence_length=128)
        (tmp_path / "run.json").write_text(dumps(run_of(case)))
        (tmp_path / "config.json").write_text(json.dumps(case.config()))
        arguments = [str(tmp_path / "run.json"), "--config", str(tmp_path / "config.json"), "--json"]
        assert simulate.main(*arguments) == 0
        peaks.append(json.loads(capsys.readouterr().out)["peakBytes"])

    weights = 2 * 128256 * 2048 + 0.5 * (2 * 2048 * 2048 + 2 * 2048 * 512 + 3 * 2048 * 8192)
    assert peaks[0] - peaks[1] == pytest.approx(weights * (1 / 2 - 1 / 8), rel=0.05)


def test_adapters_on_experts_at_zero_3_are_refused(tmp_path, capsys):
    """A run that the trainer refuses has no memory to tell."""
    case = Case(model="mixtral-8x7b", layers=1, method="lora", experts=True, zero_stage=3, gpus=2)
    (tmp_path / "run.json").write_text(dumps(run_of(case)))
    (tmp_path / "config.json").write_text(json.dumps(case.config()))

    assert simulate.main(str(tmp_path / "run.json"), "--config", str(tmp_path / "config.json")) == 2
    said = capsys.readouterr().err
    assert said == "simulate: adapters on experts cannot be trained at ZeRO stage 3: PEFT needs whole experts\n"


def test_offload_is_refused(tmp_path, capsys):
    """What cannot be told apart is not simulated, and the user reads why."""
    case = Case(model="smollm2-135m", layers=1, method="full", zero_stage=3, gpus=2)
    text = dumps(run_of(case)).replace('"offload":"none"', '"offload":"all"')
    (tmp_path / "run.json").write_text(text)
    (tmp_path / "config.json").write_text(json.dumps(case.config()))

    assert simulate.main(str(tmp_path / "run.json"), "--config", str(tmp_path / "config.json")) == 2
    said = capsys.readouterr().err
    assert said == "simulate: offload is not simulated: host memory and GPU memory cannot be told apart here\n"
