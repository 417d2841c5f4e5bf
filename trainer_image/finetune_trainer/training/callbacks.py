"""What happens beside the arithmetic of a step: reports and AdaLoRA's schedule. Given to the trainer by train.

Their order matters: reports first (the clock), then AdaLoRA and evaluation (held_out), then Saver (saver), which uploads what
the others put into the staged folder.
"""

import json
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from finetune_trainer.errors import UserError
from finetune_trainer.model.precision import stored_as
from finetune_trainer.runtime import ranks
from finetune_trainer.runtime.progress import say
from finetune_trainer.training.bench import Loop
from finetune_trainer.training.divergence import DIVERGENCE_REMEDY, LossWatch, refuse_infinite

ADALORA_SCORES, ADALORA_RANKS = "adalora.safetensors", "adalora-ranks.json"


def staged_folder(args: TrainingArguments, state: TrainerState) -> Path:
    """Return the folder that transformers has just written this step's checkpoint to."""
    return Path(args.output_dir) / f"checkpoint-{state.global_step}"


def describe_precision(loop: Loop) -> None:
    """Note and say what the tensors are stored and multiplied in."""
    masters, model = loop.run.layout.zero_stage > 0, loop.trainer.model
    attention = model.config.get_text_config()._attn_implementation  # noqa: SLF001 - transformers has no other name for it
    loop.precision = f"{stored_as(model, loop.computation, masters=masters)}, {attention} attention"
    say(loop.precision)


class Reports(TrainerCallback):
    """Progress lines, signs of life, and the end of a run whose loss diverges."""

    def __init__(self, loop: Loop, *, rows: int) -> None:
        self.loop = loop
        self.total_steps = loop.run.training.max_steps
        self.passes_per_step = loop.run.training.global_batch_size / rows
        self.losses = LossWatch()

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Report the step that training starts from. What it goes on from is loaded by now."""
        self.loop.bench.heartbeat.enough()
        self.losses = LossWatch(entry["loss"] for entry in state.log_history if "loss" in entry)
        describe_precision(self.loop)
        self.loop.padding.watch(self.loop.trainer.model)
        self.loop.bench.reporter.update(
            step=state.global_step, epoch=round(state.global_step * self.passes_per_step, 4)
        )

    def on_substep_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """A micro step is a sign of life."""
        self.loop.bench.heartbeat.beat()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """A step is a sign of life."""
        self.loop.bench.heartbeat.beat()

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, float], **_: Any
    ) -> None:
        """Report a finished step. Raises UserError(LossDiverged) before such a state is saved."""
        if "loss" not in logs:
            return
        self.loop.bench.reporter.record(state.global_step, logs)
        self._refuse_divergence(state.global_step, logs)
        self.loop.clock.lap(logs["num_tokens"])
        speed = self.loop.speed
        self.loop.bench.reporter.update(
            now=state.global_step in (1, self.total_steps),
            step=state.global_step,
            epoch=round(state.global_step * self.passes_per_step, 4),
            loss=round(logs["loss"], 6),
            learning_rate=logs["learning_rate"],
            **asdict(speed),
            seconds_remaining=self.loop.clock.seconds_for(self.total_steps - state.global_step),
        )

    def _refuse_divergence(self, step: int, logs: dict[str, float]) -> None:
        rate = f" (learning rate {logs['learning_rate']:.1e})"
        refuse_infinite("the loss", logs["loss"], step, rate)
        refuse_infinite("the gradient norm", logs.get("grad_norm", 0.0), step, rate)
        self.losses.add(logs["loss"])
        if figures := self.losses.diverged():
            raise UserError("LossDiverged", f"{figures}; stopped at step {step}{rate}: {DIVERGENCE_REMEDY}")


class AdaLoraSchedule(TrainerCallback):
    """Call AdaLoRA's budget schedule, which transformers does not, and carry it over a resume.

    PEFT saves adapters cut to the ranks that are left, which cannot be trained on. A checkpoint gets them whole, with the
    importance scores and the choice of ranks beside them.
    """

    def __init__(self, *, resumed: Path | None) -> None:
        self.resumed = resumed
        # A layer's rank may be pruned to nothing, which PEFT takes for a sharding accident at every save.
        warnings.filterwarnings("ignore", message="Adapter 'default'. .* have invalid shape")

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, *, model: Any, **_: Any
    ) -> None:
        """Take scores and ranks of the checkpoint up again."""
        if self.resumed is None:
            return
        for name, value in load_file(self.resumed / ADALORA_SCORES).items():
            table, _sep, key = name.partition("/")
            getattr(_tuner(model).rankallocator, table)[key] = value.to(args.device)
        _settings(model).rank_pattern = json.loads((self.resumed / ADALORA_RANKS).read_text())

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, *, model: Any, **_: Any
    ) -> None:
        """Prune, while the gradients of the step are still there."""
        _tuner(model).update_and_allocate(state.global_step + 1)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, *, model: Any, **_: Any
    ) -> None:
        """Add what a resume needs to the staged checkpoint."""
        if ranks.rank() != 0:
            return
        staged, settings = staged_folder(args, state), _settings(model)
        scores = {
            f"{table}/{key}": value.contiguous()
            for table in ("ipt", "exp_avg_ipt", "exp_avg_unc")
            for key, value in getattr(_tuner(model).rankallocator, table).items()
        }
        save_file(scores, staged / ADALORA_SCORES)
        pattern, settings.rank_pattern = settings.rank_pattern, None
        (staged / ADALORA_RANKS).write_text(json.dumps(pattern))
        getattr(model, "module", model).save_pretrained(staged)
        settings.rank_pattern = pattern


def _tuner(model: Any) -> Any:
    return getattr(model, "module", model).base_model


def _settings(model: Any) -> Any:
    tuner = _tuner(model)
    return tuner.peft_config[tuner.trainable_adapter_name]
