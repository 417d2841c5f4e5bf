"""One optimizer step of the real trainer on fake tensors, and its peak of memory. Used by simulate.

The objects are those of a run: model.adapter_config, settings.trainer_settings, TRL's SFTTrainer with its loss, collator,
optimizer and, where the layout says so, DeepSpeed or DDP over torch's fake process group.
"""

import gc
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from finetune_contract import RunConfig
from tokenizers import Tokenizer, models
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import _disable_current_modes
from transformers import PreTrainedTokenizerFast
from trl import SFTTrainer
from trl.kernels.chunked_logprob import ChunkedLogProbFunction

from finetune_trainer.model import load as model
from finetune_trainer.model.precision import Computation, computation, float32_adapters, leave_casts_to_autocast
from finetune_trainer.model.varlen import VARLEN
from finetune_trainer.simulate.kernels import emulated, patched
from finetune_trainer.simulate.ledger import Ledger, Peak
from finetune_trainer.simulate.model import fake_base_model, prepare_packing, states_of_quantisation
from finetune_trainer.simulate.ranks import one_rank_of, reduce_nothing
from finetune_trainer.training.settings import trainer_settings

MICRO_STEPS = 2
"""With accumulation the second micro step meets the gradients of the first; a third adds nothing."""


def step_peak(run: RunConfig, config: Any) -> Peak:
    """Return the peak of one training step of a run, on rank 0."""
    numbers = computation(run.method, run.training.precision, device="cuda")
    run = shortened(run)
    prepare_packing()
    ledger = Ledger()
    config.use_cache = False
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        stack.enter_context(one_rank_of(run.layout))
        end_to_end = run.training.packing or run.layout.attention == VARLEN
        stack.enter_context(emulated(unequal_rows=run.layout.micro_batch_size > 1 and not end_to_end))
        settings = trainer_settings(run, numbers, folder=Path(folder), steps=2, end_to_end=end_to_end)
        settings.dataloader_pin_memory = False
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        stack.enter_context(ledger)
        trainer = fake_trainer(run, config, numbers, settings, ledger)
        peaks: list[Peak] = []
        measure = partial(measured, run, trainer, ledger, peaks)
        stack.enter_context(noted(trainer, ledger))
        stack.enter_context(patched(trainer, "_inner_training_loop", measure))
        trainer.train()
        return peaks[0]


def measured(run: RunConfig, trainer: SFTTrainer, ledger: Ledger, peaks: list[Peak], **_: Any) -> None:
    """Stand in for the training loop: prepare, warm up, and keep the peak of one step."""
    wrapped = prepared(trainer, ledger)
    if run.layout.zero_stage == 3:
        one_step(run, trainer, wrapped, ledger)  # DeepSpeed fetches ahead from the second step on
    else:
        engine: Any = wrapped
        make_states(engine.optimizer.optimizer if run.layout.zero_stage else trainer.optimizer, ledger)
    gc.collect()
    ledger.start_over()
    one_step(run, trainer, wrapped, ledger)
    peaks.append(ledger.peak)


def make_states(optimizer: torch.optim.Optimizer, ledger: Ledger) -> None:
    """Let the optimizer make its states without a forward pass: a step over gradients of zero."""
    with ledger.within("optimizer"):
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        optimizer.zero_grad()


def shortened(run: RunConfig) -> RunConfig:
    """Cut accumulation to what memory depends on."""
    steps = min(run.layout.gradient_accumulation_steps, MICRO_STEPS)
    layout = replace(run.layout, gradient_accumulation_steps=steps)
    rows = steps * layout.micro_batch_size * layout.world_size
    return replace(run, layout=layout, training=replace(run.training, global_batch_size=rows))


def fake_trainer(run: RunConfig, config: Any, numbers: Computation, settings: Any, ledger: Ledger) -> SFTTrainer:
    """Build the trainer as train.prepare does."""
    built = fake_base_model(config, run, numbers, ledger)
    adapter = None if run.lora is None else model.adapter_config(built, run.lora, steps=max(10, run.training.max_steps))
    rows = Dataset.from_dict({"input_ids": [[0]], "labels": [[0]]})
    trainer = SFTTrainer(
        model=built, args=settings, train_dataset=rows, processing_class=a_tokenizer(), peft_config=adapter
    )
    if run.lora is not None and run.layout.zero_stage == 0:
        float32_adapters(trainer.model)
        if numbers.autocast:
            leave_casts_to_autocast(trainer.model)
    return trainer


def a_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer of nothing: the trainer wants one, rows are tokens already."""
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"<pad>": 0, "</s>": 1}, unk_token="</s>")),
        pad_token="<pad>", eos_token="</s>",
    )  # fmt: skip


def prepared(trainer: SFTTrainer, ledger: Ledger) -> torch.nn.Module:
    """Name what lives already, then make the optimizer and wrap the model as a run does."""
    for name, parameter in trainer.model.named_parameters():
        adapter = parameter.requires_grad and hasattr(trainer.model, "peft_config")
        ledger.name(parameter, "adapter" if adapter else "weights")
        del name
    for tensor in states_of_quantisation(trainer.model):
        ledger.name(tensor, "weights")
    with ledger.within("optimizer"):
        wrapped, _ = trainer._prepare_for_training(2, None, None)
    if isinstance(wrapped, DistributedDataParallel):
        wrapped.register_comm_hook(None, reduce_nothing)
    return wrapped


def noted(trainer: SFTTrainer, ledger: Ledger) -> ExitStack:
    """Tell the ledger which part of the step is running."""
    stack = ExitStack()
    backward = trainer.accelerator.backward

    def in_backward(*args: Any, **kwargs: Any) -> None:
        with ledger.within("temporaries"):
            backward(*args, **kwargs)

    stack.enter_context(patched(trainer.accelerator, "backward", in_backward))
    for name in ("forward", "backward"):
        part = getattr(ChunkedLogProbFunction, name)
        stack.enter_context(patched(ChunkedLogProbFunction, name, staticmethod(_as_logits(part, ledger))))
    for parameter in trainer.model.parameters():
        if parameter.requires_grad:
            hook = parameter.register_post_accumulate_grad_hook(lambda owner: ledger.name(owner.grad, "gradients"))
            stack.callback(hook.remove)
    return stack


def _as_logits(part: Any, ledger: Ledger) -> Any:
    def counted(*args: Any, **kwargs: Any) -> Any:
        with ledger.within("logits"):
            return part(*args, **kwargs)

    return counted


def one_step(run: RunConfig, trainer: SFTTrainer, wrapped: torch.nn.Module, ledger: Ledger) -> None:
    """Make the micro steps and the optimizer step of transformers' training loop."""
    count = run.layout.gradient_accumulation_steps
    trainer.current_gradient_accumulation_steps = count
    tokens = torch.tensor(run.training.sequence_length * run.layout.micro_batch_size * count)
    with ledger.within("activations"):
        for micro in range(count):
            last = micro == count - 1
            trainer.accelerator.gradient_state._set_sync_gradients(last)
            batch = a_batch(run, trainer)
            if last:
                trainer.training_step(wrapped, batch, tokens)
            else:
                with trainer.accelerator.no_sync(model=wrapped):
                    trainer.training_step(wrapped, batch, tokens)
            del batch
    with ledger.within("temporaries"):
        if not trainer.is_deepspeed_enabled and run.training.max_grad_norm > 0:
            trainer._clip_grad_norm(wrapped)
    with ledger.within("optimizer"):
        trainer.optimizer.step()
        wrapped.zero_grad()


def a_batch(run: RunConfig, trainer: SFTTrainer) -> dict[str, torch.Tensor]:
    """Return one micro batch of full rows from TRL's collator."""
    length = run.training.sequence_length
    row: dict[str, Any] = {"input_ids": [0] * length, "labels": [0] * length}
    if run.training.packing:
        row["seq_lengths"] = [length - length // 2, length // 2]
    with _disable_current_modes():  # the collator runs on the host, with values
        batch = trainer.data_collator([dict(row) for _ in range(run.layout.micro_batch_size)])
    return {name: torch.empty_like(value) if torch.is_tensor(value) else value for name, value in batch.items()}
