"""TRL's trainer, but for one thing: a sharded run that has made its last step goes on from weights alone. Built by train."""

from pathlib import Path
from typing import Any

from trl import SFTTrainer

from finetune_trainer.checkpoints.checkpoints import holds_weights_alone


class Trainer(SFTTrainer):
    """Takes everything else of a checkpoint up as transformers does."""

    def _prepare_for_training(self, max_steps: int, train_dataloader: Any, resume_from_checkpoint: str | None) -> Any:
        """Shard the model. DeepSpeed would refuse a checkpoint without its own files; the weights are in the model already."""
        resumed = resume_from_checkpoint
        if resumed is not None and self.is_deepspeed_enabled and is_alone(Path(resumed)):
            resumed = None
        return super()._prepare_for_training(max_steps, train_dataloader, resumed)


def is_alone(folder: Path) -> bool:
    """Tell whether a checkpoint holds weights alone."""
    return holds_weights_alone(path.name for path in folder.iterdir())
