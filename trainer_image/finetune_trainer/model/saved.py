"""The weights of a model that was saved: to build it with, or by the names of its class. Called by train, trainer and best_weights.

transformers saves by the names and shapes of the hub: experts lie one by one, and parts of some models are called otherwise. It takes
them back where it loads a model, and nowhere else: its own resume takes experts for unknown tensors, and goes on with those of the base.
"""

import shutil
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    WeightConverter,
    WeightRenaming,
    WeightTransform,
    dot_natural_key,
    rename_source_key,
)

from finetune_trainer.storage.formats import INDEX_ENDING, WEIGHTS

WITH_INDEX = (WEIGHTS, INDEX_ENDING)


def with_weights(base: Path, saved: Path, folder: Path) -> Path:
    """Lay out all that belongs to a base model, but the weights of another folder; returns the layout.

    A model's code and configuration are those that the run pins: nothing is executed that lies beside a checkpoint.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    belonging = [path for path in base.iterdir() if not path.name.endswith(WITH_INDEX)]
    for path in (*belonging, *(path for path in saved.iterdir() if path.name.endswith(WITH_INDEX))):
        (folder / path.name).symlink_to(path.resolve())
    return folder


def saved_weights(model: PreTrainedModel, folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the weights of a folder, each by its name in the model. Files are mapped: what is joined is in memory one by one."""
    files = (load_file(path) for path in sorted(folder.glob(f"*{WEIGHTS}")))
    stored = {name: tensor for file in files for name, tensor in file.items()}
    steps = get_model_conversion_mapping(model)
    renamings = [step for step in steps if isinstance(step, WeightRenaming)]
    converters = [step for step in steps if isinstance(step, WeightConverter)]
    by_pattern = {pattern: step for step in converters for pattern in step.source_patterns}
    own, ways = model.state_dict(), dict[str, WeightTransform]()
    for name in sorted(stored, key=dot_natural_key):
        target, pattern = rename_source_key(name, renamings, converters, model.base_model_prefix, own)
        if target not in own and name in own:
            target, pattern = name, None
        if target not in ways:
            ways[target] = WeightRenaming(name, target) if pattern is None else deepcopy(by_pattern[pattern])
        ways[target].add_tensor(target, name, pattern or name, stored[name])
    for target, way in ways.items():
        for name, found in way.convert(target, model=model, config=model.config).items():
            yield name, found[0] if isinstance(found, list) else found
