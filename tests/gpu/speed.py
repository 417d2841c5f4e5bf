"""Part 3: speed of an 8B lora: our trainer, a plain TRL script, and one change at a time, on the same model and rows.

What the trainer does by itself (variable-length attention, no casts, no cuDNN attention) is undone for one run each, so that each is seen.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from finetune_contract import RunConfig
from finetune_trainer.model import load as model
from finetune_trainer.model.precision import Computation, computation
from finetune_trainer.simulate.step import a_tokenizer
from peft import LoraConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers.trainer_callback import PrinterCallback
from trl import SFTConfig, SFTTrainer

from tests.gpu.attention import cudnn
from tests.gpu.card import Card, Late, free, peaks
from tests.gpu.scenarios import PACKED, PADDED, Scenario, of_the_card
from tests.gpu.training import Clock, loaded, rows_of, scatter, trainer_of
from tests.simulated.cases import run_of

STEPS, WARM_UP = 6, 2
VARIANTS = ("ours", "plain TRL", "ours, again", "cuDNN on", "with casts", "padding and masks", "liger layers")
REDUCED_VARIANTS = ("ours", "plain TRL", "with casts", "padding and masks")
"""What the trainer does, a plain script, then one thing at a time done otherwise."""


def check(card: Card) -> None:
    """Measure padded rows, then packed ones; ours and the plain script in turn, then the changes."""
    for named in (PADDED, PACKED):
        scenario = of_the_card(named, reduced=card.reduced)
        run = run_of(scenario.case)
        numbers = computation(run.method, run.training.precision, device=card.device)
        built = loaded(run, scenario.config, numbers)
        scatter(built)
        rows = rows_of(scenario, STEPS, scenario.config["vocab_size"])
        for name in REDUCED_VARIANTS if card.reduced else VARIANTS:
            try:
                clock = (
                    plain(built, scenario, rows, card)
                    if name == "plain TRL"
                    else ours(name, built, scenario, rows, card)
                )
                found = {
                    "tokensPerSecond": round(clock.tokens_per_second(WARM_UP), 1),
                    "losses": clock.losses,
                    **peaks(),
                }
            except Absent as missing:
                found = {"absent": str(missing)}
            except Late:
                raise
            except Exception as error:  # noqa: BLE001 - one change that fails must not hide the others
                found = {"error": f"{type(error).__name__}: {str(error)[:300]}"}
            card.say({"name": f"{named.name}: {name}", "scenario": named.name, "variant": name, **found})
        del built
        free()


class Absent(Exception):
    """What a change needs is not there."""


def ours(variant: str, built: Any, scenario: Scenario, rows: Any, card: Card) -> Clock:
    """Train with our settings, one of them changed."""
    run = run_of(scenario.case)
    if variant == "padding and masks":
        run = replace(run, layout=replace(run.layout, attention="sdpa"))
    numbers = computation(run.method, run.training.precision, device=card.device)
    with (
        cudnn(card, variant == "cuDNN on"),
        attention(built, run, numbers),
        liger_layers(built, variant == "liger layers", card),
        trainer_of(scenario, built, run, numbers, rows=rows, steps=STEPS) as (trainer, clock),
    ):
        if variant == "with casts":
            with_casts(trainer.model)
        trainer.train()
        return clock


def plain(built: Any, scenario: Scenario, rows: Any, card: Card) -> Clock:
    """Train as a practitioner's script does: TRL's defaults but for what describes the run."""
    clock, case = Clock(), scenario.case
    before = built.config.get_text_config()._attn_implementation
    built.set_attn_implementation("sdpa")
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=built,
            args=SFTConfig(
                output_dir=folder, max_steps=STEPS, per_device_train_batch_size=case.micro_batch_size, learning_rate=1e-4,
                logging_steps=1, save_strategy="no", report_to="none", max_length=None, disable_tqdm=True,
                bf16=card.device == "cuda", use_cpu=card.device == "cpu", padding_free=case.packing,
                train_sampling_strategy="sequential", dataset_kwargs={"skip_prepare_dataset": True},
            ),
            train_dataset=rows, processing_class=a_tokenizer(), callbacks=[clock],
            peft_config=LoraConfig(
                r=case.lora_rank, lora_alpha=case.lora_rank, target_modules="all-linear", task_type="CAUSAL_LM"
            ),
        )  # fmt: skip
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        trainer.model.unload()
        trainer.model = trainer.model_wrapped = trainer.optimizer = None
    built.set_attn_implementation(before)
    return clock


def with_casts(model: torch.nn.Module) -> None:
    """Let PEFT cast what adapters read, as it does by default."""
    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            module.cast_input_dtype_enabled = True


@contextmanager
def attention(built: Any, run: RunConfig, numbers: Computation) -> Iterator[None]:
    """Attend as the run says, and afterwards as before."""
    before = built.config.get_text_config()._attn_implementation
    built.set_attn_implementation(model.attention(built.config, run, numbers))
    try:
        yield
    finally:
        built.set_attn_implementation(before)


@contextmanager
def liger_layers(built: Any, wanted: bool, card: Card) -> Iterator[None]:
    """Put Liger's norms, rotary embedding and SwiGLU in place of transformers' for the model's lifetime."""
    if wanted:
        if card.device == "cpu":
            raise Absent("Liger's kernels need a GPU")
        try:
            from liger_kernel.transformers import apply_liger_kernel_to_llama  # noqa: PLC0415 - not among our dependencies
        except ImportError as error:
            raise Absent("liger-kernel is not installed") from error
        apply_liger_kernel_to_llama(
            rope=True, swiglu=True, rms_norm=True, cross_entropy=False, fused_linear_cross_entropy=False, model=built
        )
    yield
