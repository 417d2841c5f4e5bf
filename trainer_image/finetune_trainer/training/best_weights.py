"""Put the best weights back before they are measured and published, where early stopping chose them. Called by train."""

from pathlib import Path
from typing import Any

from peft import set_peft_model_state_dict
from safetensors.torch import load_file

from finetune_trainer.errors import ReportedError
from finetune_trainer.model.saved import saved_weights
from finetune_trainer.runtime.progress import say
from finetune_trainer.training.bench import Loop


def put_back(loop: Loop) -> None:
    """Load the best slot into the trainer's model; nothing happens in a run without early stopping.

    Raises ReportedError where the slot is gone: publishing other weights than were chosen would be a lie.
    """
    name = loop.patience.best_slot
    if not name:
        return
    loop.uploads.finish(name)
    folder = loop.checkpoints.best(name)
    if folder is None:
        raise ReportedError("TrainerError", f"the best weights ({name}) are missing from the checkpoint destination")
    say(f"using the best weights: {name}, loss {loop.patience.best_loss:.4f}")
    _load(loop.trainer.accelerator.unwrap_model(loop.trainer.model), folder)


def _load(model: Any, folder: Path) -> None:
    if (folder / "adapter_config.json").is_file():
        files = (load_file(path) for path in sorted(folder.glob("*.safetensors")))
        set_peft_model_state_dict(model, {key: value for file in files for key, value in file.items()})
        return
    own, missing = model.state_dict(), set(model.state_dict()) - set(getattr(model, "all_tied_weights_keys", ()))
    for name, value in saved_weights(model, folder):
        if name in own:
            own[name].copy_(value)
        missing.discard(name)
    if missing:
        raise ReportedError("TrainerError", f"the best weights lack {len(missing)} tensors, first {min(missing)}")
