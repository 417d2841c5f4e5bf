"""A model that a Pod without GPUs publishes: what the attempt that trained it leaves beside its checkpoints. Written by training.publish.

The folder holds what only the attempt knows: tokenizer, vocabulary and ends of the model in `model`, the evaluation record, and
result.json. The weights are those of the last checkpoint, or of the best slot. Read by exporting.trained.
"""

from dataclasses import dataclass
from pathlib import Path

from finetune_contract import RunConfig
from finetune_contract.wire import dumps

from finetune_trainer.checkpoints.checkpoints import Checkpoints
from finetune_trainer.checkpoints.delivery import clear, deliver, mark
from finetune_trainer.checkpoints.holder import Holder
from finetune_trainer.publishing.published import Published
from finetune_trainer.storage.formats import INDEX_ENDING, WEIGHTS

RESULT_FILE = "result.json"
MODEL_FOLDER = "model"
DESCRIPTIONS = ("config.json", "generation_config.json")
OF_DEEPSPEED = "zero_to_"
"""How the names of programs begin that DeepSpeed puts into checkpoints."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Where the weights are that the attempt would have published."""

    folder: str
    """Of a complete checkpoint, or of a best slot."""
    files: dict[str, str]
    """The sha256 of each file that is published, by its name."""
    dtype: str
    """To publish in: that of the base model's files."""
    kept: tuple[str, ...] = ()
    """Parts of the names of tensors that stay as they are."""
    dropped: tuple[str, ...] = ()
    """Tensors of the checkpoint that are another one's copy: those of ZeRO-2 hold tied weights twice, published models once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedOver:
    """The content of result.json."""

    run: RunConfig
    holder: Holder | None
    """As the attempt held the checkpoint destination."""
    weights: Weights
    published: Published


def result_folder(attempt: int) -> str:
    """Return the name of the folder that an attempt leaves."""
    return f"result-attempt-{attempt}"


def of_the_model(files: dict[str, str]) -> dict[str, str]:
    """Return those files of a checkpoint that belong to the model: weights, their index, configuration, and its own code."""
    return {
        name: digest
        for name, digest in files.items()
        if name.endswith((WEIGHTS, INDEX_ENDING))
        or name in DESCRIPTIONS
        or (name.endswith(".py") and "/" not in name and not name.startswith(OF_DEEPSPEED))
    }


def leave(checkpoints: Checkpoints, folder: Path, handed: HandedOver) -> None:
    """Bring the folder to the checkpoint destination and mark it complete. Raises ReportedError where a later attempt has taken over.

    The folder is moved where it can be. Only rank 0 calls it.
    """
    name = result_folder(handed.run.attempt)
    (folder / RESULT_FILE).write_text(dumps(handed))
    clear(checkpoints, name)
    mark(checkpoints, name, handed.published.steps, deliver(checkpoints, folder, name))
