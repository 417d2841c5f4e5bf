"""What is left to keep of a run that has made its last step. Called by saver, publish and train."""

import torch

from finetune_trainer.training.bench import Loop


def suffice(loop: Loop) -> bool:
    """Tell whether a checkpoint's weights are the very ones that are published: then a run at its end needs nothing else of it.

    With ZeRO those of a full fine-tune are copies, in the type that it computes in, of float32 masters. They are the same where the
    masters are rounded to that type anyway, and where early stopping publishes such copies. An adapter's are small, and stay whole.
    """
    if not loop.run.layout.zero_stage:
        return True
    of_masters = not loop.patience.best_slot and computed(loop) not in (torch.float32, loop.stored)
    return loop.run.method == "full" and not of_masters


def computed(loop: Loop) -> torch.dtype:
    """Return the type that the model computes in."""
    model = loop.trainer.accelerator.unwrap_model(loop.trainer.model)
    return next(iter(model.parameters())).dtype
