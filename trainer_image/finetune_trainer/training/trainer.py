"""TRL's trainer, but for what it goes on from: weights that the model was built with are not taken up again. Built by train."""

from pathlib import Path
from typing import Any

import torch
from finetune_contract import RunConfig
from peft import PeftModel
from trl import SFTTrainer

from finetune_trainer.checkpoints.checkpoints import holds_weights_alone
from finetune_trainer.model.load import stored_dtype
from finetune_trainer.model.saved import saved_weights


def taken_whole(run: RunConfig, resumed: Path | None) -> Path | None:
    """Return the checkpoint that the model is built with, as with a base model or an initial adapter; None where there is none.

    Whole models are: transformers' own resume would leave out what it saves by other names. So are weights alone in a sharded run:
    DeepSpeed refuses a checkpoint without its own files.
    """
    if resumed is None:
        return None
    return resumed if (is_alone(resumed) if run.layout.zero_stage else run.method == "full") else None


class Trainer(SFTTrainer):
    """Takes everything else of a checkpoint up as transformers does."""

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Take an adapter up. A whole model was built with its weights."""
        if isinstance(self.model, PeftModel):
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _prepare_for_training(self, max_steps: int, train_dataloader: Any, resume_from_checkpoint: str | None) -> Any:
        """Shard the model, and complete the float32 masters that DeepSpeed has made of it."""
        resumed = resume_from_checkpoint
        if resumed is None or not self.is_deepspeed_enabled or not is_alone(Path(resumed)):
            return super()._prepare_for_training(max_steps, train_dataloader, resumed)
        prepared = super()._prepare_for_training(max_steps, train_dataloader, None)
        if not isinstance(self.model, PeftModel) and stored_dtype(Path(resumed)) == torch.float32:
            _complete_masters(self.model, Path(resumed))
        return prepared


def _complete_masters(model: Any, folder: Path) -> None:
    """Give masters the digits that they lost when the model was loaded in 16 bit: a run without sharding saves float32."""
    from deepspeed.utils import safe_set_full_fp32_param  # noqa: PLC0415 - two seconds, for sharded runs only

    parameters = {name: each for name, each in model.named_parameters() if each.requires_grad}
    for name, value in saved_weights(model, folder):
        if value.dtype == torch.float32 and name in parameters and parameters[name].dtype != torch.float32:
            safe_set_full_fp32_param(parameters[name], value)


def is_alone(folder: Path) -> bool:
    """Tell whether a checkpoint holds weights alone."""
    return holds_weights_alone(path.name for path in folder.iterdir())
