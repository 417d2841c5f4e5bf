"""Part 3: speed of an 8B lora: our trainer, a plain TRL script, and one change at a time, on the same model and rows.

The changes are made here, on torch and the libraries, so that each can be measured whether the trainer has it or not.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from finetune_trainer.model.precision import computation
from finetune_trainer.simulate.step import a_tokenizer
from peft import LoraConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, flash_attention_mask
from transformers.trainer_callback import PrinterCallback
from trl import SFTConfig, SFTTrainer

from tests.gpu.attention import cudnn
from tests.gpu.card import Card, Late, free, peaks
from tests.gpu.scenarios import PACKED, PADDED, Scenario, of_the_card
from tests.gpu.training import Clock, loaded, rows_of, scatter, trainer_of
from tests.simulated.cases import run_of

STEPS, WARM_UP = 6, 2
VARLEN = "gpu_check_varlen"
VARIANTS = ("ours", "plain TRL", "ours, again", "cuDNN on", "no casts", "varlen", "liger layers", "all of them")
REDUCED_VARIANTS = ("ours", "plain TRL", "no casts", "varlen")


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
    """Train with our settings and one change."""
    run = run_of(scenario.case)
    numbers = computation(run.method, run.training.precision, device=card.device)
    both = variant == "all of them"
    with (
        cudnn(card, variant == "cuDNN on"),
        attention(built, variant == "varlen" or both, card),
        liger_layers(built, variant == "liger layers" or both, card),
        trainer_of(scenario, built, run, numbers, rows=rows, steps=STEPS) as (trainer, clock),
    ):
        if variant == "no casts" or both:
            without_casts(trainer.model)
        trainer.train()
        return clock


def plain(built: Any, scenario: Scenario, rows: Any, card: Card) -> Clock:
    """Train as a practitioner's script does: TRL's defaults but for what describes the run."""
    clock, case = Clock(), scenario.case
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
    return clock


def without_casts(model: torch.nn.Module) -> None:
    """Leave the casts of adapters' inputs to autocast."""
    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            module.cast_input_dtype_enabled = False


@contextmanager
def attention(built: Any, wanted: bool, card: Card) -> Iterator[None]:
    """Let packed rows attend by torch's varlen kernel."""
    if not wanted:
        yield
        return
    if card.device == "cpu":
        raise Absent("torch.nn.attention.varlen needs a GPU")
    AttentionInterface.register(VARLEN, attend)
    AttentionMaskInterface.register(VARLEN, flash_attention_mask)
    built.set_attn_implementation(VARLEN)
    try:
        yield
    finally:
        built.set_attn_implementation("sdpa")


def attend(
    module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, *,
    scaling: float | None = None, cu_seq_lens_q: torch.Tensor | None = None, max_length_q: int | None = None, **_: Any,
) -> tuple[torch.Tensor, None]:  # fmt: skip
    """Attend document by document. Raises Absent where the rows are padded: their ends are in a mask."""
    from torch.nn.attention.varlen import varlen_attn  # noqa: PLC0415 - torch 2.10 and later

    if cu_seq_lens_q is None or max_length_q is None:
        raise Absent("only packed rows come with their ends")
    ends = cu_seq_lens_q.to(torch.int32)
    flat = [tensor[0].transpose(0, 1) for tensor in (query, key, value)]
    longest = int(max_length_q)
    out = varlen_attn(*flat, ends, ends, longest, longest, scale=scaling, window_size=(-1, 0), enable_gqa=True)
    return out[None], None


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
