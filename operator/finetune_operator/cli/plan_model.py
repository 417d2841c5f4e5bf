"""Which model a plan is for: a config.json, a folder or cache on this machine, or the catalogue. Called by plan and init."""

import difflib
import json
import re
from collections.abc import Iterator
from pathlib import Path

from finetune_operator.api.plan import ModelArchitecture
from finetune_operator.api.spec import FineTuneJobSpec
from finetune_operator.cli.local_model import local_config
from finetune_operator.cli.manifest_file import text_of
from finetune_operator.errors import FinetuneError
from finetune_operator.planning.models.architecture import architecture
from finetune_operator.planning.models.catalogue import CatalogueModel, catalogue_entry, models

MOST_NEAR = 5
"""Names of models in one message."""


def model_shape(spec: FineTuneJobSpec, asked: str) -> ModelArchitecture:
    """Return the shape of a config.json, a model on this machine or in the catalogue. Raises FinetuneError for an unknown name."""
    if asked.endswith(".json"):
        return _model_of_config(Path(asked))
    if (config := local_config(asked or spec.model.source)) is not None:
        return _model_of_config(config)
    return catalogue_model(asked or spec.model.source).architecture


def catalogue_model(asked: str) -> CatalogueModel:
    """Return the model of a hub name, with or without ORG and hf://, or of a folder named like it. Raises FinetuneError."""
    name = asked.partition("://")[2] or asked
    found = catalogue_entry(name) or _model_in_folder(name)
    if found is None:
        near = ", ".join(_near(name))
        meant = f" Did you mean {near}?" if near else ""
        raise FinetuneError(
            f"model {name} is not in the catalogue.{meant} Pass a name from `finetune models` or the path of a config.json as --model"
        )
    return found


def _model_of_config(path: Path) -> ModelArchitecture:
    try:
        config = json.loads(text_of(path))
    except ValueError as error:
        raise FinetuneError(f"{path} is not JSON ({error}): --model needs the config.json of a model") from error
    if not isinstance(config, dict):
        raise FinetuneError(f"{path} is not a JSON object: --model needs the config.json of a model")
    return architecture(config)


def _model_in_folder(path: str) -> CatalogueModel | None:
    """A folder is mostly named as the model is on the hub: pvc://models/llama-3.1-8b."""
    return next((one for one in models() if _last(path) in map(_last, (one.name, *one.aliases))), None)


def _near(name: str) -> list[str]:
    """Return models that were perhaps meant: those with the name in theirs (`gemma-3`), else those spelt much like it."""
    asked = _last(name)
    if longer := [one.name for one in models() if asked in _last(one.name)]:
        return longer[:MOST_NEAR]
    alike = {_last(one) for one in _names() if _family(one) == _family(name) and _size(one) == _size(name)}
    close = difflib.get_close_matches(asked, alike, n=3)
    return [one for one in _names() if _last(one) in close]


def _family(name: str) -> str:
    """Return the letters that a name begins with: llama of Llama-3.1-8B."""
    found = re.match(r"(meta-)?([a-z]+)", _last(name))
    return found[2] if found else ""


def _size(name: str) -> str:
    """Return the size in a name: 8b of Llama-3.1-8B; empty where it has none."""
    found = re.search(r"(?<![a-z0-9.])([0-9.x]+[bm])(?![a-z])", _last(name))
    return found[1] if found else ""


def _names() -> Iterator[str]:
    return (name for one in models() for name in (one.name, *one.aliases))


def _last(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2].lower()
