"""A run on the card: the model from its config by our loader, the trainer by our settings, a few steps."""

import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from finetune_contract import RunConfig
from finetune_trainer.model import experts, varlen
from finetune_trainer.model import load as model
from finetune_trainer.model.precision import Computation, computation, float32_adapters, leave_casts_to_autocast
from finetune_trainer.model.quantise import experts_too
from finetune_trainer.simulate.model import Slice, stored
from finetune_trainer.simulate.step import a_tokenizer
from finetune_trainer.training.settings import trainer_settings
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, TrainerCallback
from transformers.trainer_callback import PrinterCallback
from trl import SFTTrainer

from tests.gpu.card import Card, peaks, reset_peaks
from tests.gpu.scenarios import Scenario
from tests.simulated.cases import run_of

STEPS = 4
SPREAD = 0.7
"""Of the lengths of padded rows: they spread log-normally, as those of chats do."""


class Filled(Slice):
    """A tensor of a file that does not exist: made when it is read, on the host, with one value everywhere."""

    def __getitem__(self, _: Any) -> torch.Tensor:
        return torch.full(self.shape, 0.02, dtype=self.dtype, device="cpu")


def config_of(values: dict[str, Any]) -> Any:
    """Return transformers' configuration of a config.json."""
    rest = dict(values)
    return AutoConfig.for_model(rest.pop("model_type"), **rest)


def loaded(run: RunConfig, values: dict[str, Any], numbers: Computation) -> Any:
    """Load a model as train does, by transformers' loader and our packing of experts; only the files are made up."""
    config, dtype = config_of(values), model.load_dtype(run, numbers)
    config.use_cache = False
    experts.register()
    files = {name: Filled(found.shape, found.dtype) for name, found in stored(config, dtype).items()}
    with experts_too():
        return MODEL_FOR_CAUSAL_LM_MAPPING[type(config)].from_pretrained(
            None, config=config, state_dict=files, dtype=dtype, attn_implementation=model.attention(config, run, numbers),
            quantization_config=model.quantization(run, numbers),
            device_map={"": 0 if numbers.device == "cuda" else "cpu"},
        )  # fmt: skip


def scatter(built: torch.nn.Module) -> None:
    """Give the weights random values where they are: products of equal numbers take less power, and so less time."""
    with torch.no_grad():
        for parameter in built.parameters():
            if parameter.is_floating_point():
                parameter.normal_(std=0.02)
            else:
                parameter.random_(0, 256)


def lengths_of(scenario: Scenario, count: int, seed: int) -> list[int]:
    """Return the lengths of rows, or with packing of the documents of one row."""
    longest, draw = scenario.case.sequence_length, random.Random(seed)
    if not scenario.padded and not scenario.case.packing:
        return [longest] * count
    mean = longest // 4
    return [max(2, min(longest, round(mean * draw.lognormvariate(-SPREAD * SPREAD / 2, SPREAD)))) for _ in range(count)]


def rows_of(scenario: Scenario, steps: int, vocabulary: int) -> Dataset:
    """Return rows of random tokens, enough for so many steps; every seed is fixed."""
    case = scenario.case
    count = steps * case.micro_batch_size * case.accumulation
    if not case.packing:
        return Dataset.from_list(
            [_row(length, seed, vocabulary) for seed, length in enumerate(lengths_of(scenario, count, 7))]
        )
    return Dataset.from_list([_packed(scenario, seed, vocabulary) for seed in range(count)])


def _row(length: int, seed: int, vocabulary: int) -> dict[str, Any]:
    draw = random.Random(seed)
    ids = [draw.randrange(2, vocabulary) for _ in range(length)]
    return {"input_ids": ids, "labels": list(ids)}


def _packed(scenario: Scenario, seed: int, vocabulary: int) -> dict[str, Any]:
    room, documents = scenario.case.sequence_length, []
    for length in lengths_of(scenario, 200, seed):
        if room < 2:
            break
        documents.append(min(length, room))
        room -= documents[-1]
    return {**_row(sum(documents), seed, vocabulary), "seq_lengths": documents}


@dataclass(slots=True)
class Clock(TrainerCallback):  # type: ignore[misc]
    """The time, tokens and loss of each step."""

    seconds: list[float] = field(default_factory=list)
    tokens: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    at: float = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        reset_peaks()
        self.at = time.perf_counter()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
        if "loss" not in logs:
            return
        now = time.perf_counter()  # the loss has been read, so the step is over
        self.seconds.append(round(now - self.at, 4))
        self.tokens.append(logs["num_tokens"] - sum(self.tokens))
        self.losses.append(logs["loss"])
        self.at = now

    def tokens_per_second(self, warm_up: int) -> float:
        """Return the speed of the steps after the first few."""
        return sum(self.tokens[warm_up:]) / max(1e-9, sum(self.seconds[warm_up:]))


@contextmanager
def trainer_of(
    scenario: Scenario, built: Any, run: RunConfig, numbers: Computation, *, rows: Dataset, steps: int
) -> Iterator[tuple[SFTTrainer, Clock]]:
    """Build the trainer as train.prepare does; afterwards the model is without its adapter again."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        end_to_end = run.training.packing or varlen.serves(run.layout, numbers.device)
        settings = trainer_settings(run, numbers, folder=folder, steps=steps, end_to_end=end_to_end)
        adapter = None if run.lora is None else model.adapter_config(built, run.lora, steps=100)
        clock = Clock()
        trainer = SFTTrainer(
            model=built, args=settings, train_dataset=rows, processing_class=a_tokenizer(), peft_config=adapter,
            callbacks=[clock],
        )  # fmt: skip
        trainer.remove_callback(PrinterCallback)
        if run.lora is not None:
            float32_adapters(trainer.model)
            if numbers.autocast:
                leave_casts_to_autocast(trainer.model)
        yield trainer, clock
        if run.lora is not None:
            trainer.model.unload()
        trainer.model = trainer.model_wrapped = trainer.optimizer = None


def measured(scenario: Scenario, card: Card) -> dict[str, Any]:
    """Load a scenario's model, make its steps, and return peaks, times and losses."""
    run = run_of(scenario.case)
    numbers = computation(run.method, run.training.precision, device=card.device)
    reset_peaks()
    started = time.perf_counter()
    built = loaded(run, scenario.config, numbers)
    loading = {"loadSeconds": round(time.perf_counter() - started, 2)}
    loading |= {f"loading{name[0].upper()}{name[1:]}": value for name, value in peaks().items()}
    scatter(built)
    rows = rows_of(scenario, STEPS, scenario.config["vocab_size"])
    with trainer_of(scenario, built, run, numbers, rows=rows, steps=STEPS) as (trainer, clock):
        trainer.train()
        return {
            **loading, **peaks(), "stepSeconds": clock.seconds, "tokens": clock.tokens, "losses": clock.losses,
            "tokensPerSecond": round(clock.tokens_per_second(1), 1),
        }  # fmt: skip
