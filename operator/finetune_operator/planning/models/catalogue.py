"""Well-known models by their hub name, so that a plan needs no network. Called by the command line.

data/models.json holds the sizing keys of each config.json. The preflight's own reading of a model always wins.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

from finetune_operator.api.plan import ModelArchitecture
from finetune_operator.planning.models.architecture import architecture


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueModel:
    """One entry."""

    name: str
    """ORG/NAME on the hub, without a variant suffix."""
    aliases: tuple[str, ...]
    """Other names of the same shape: instruct variants, quotations of it."""
    config: dict[str, Any]
    source: str
    """Where the shape is published."""

    @property
    def architecture(self) -> ModelArchitecture:
        """Shape and exact counts."""
        return architecture(self.config)


@lru_cache(maxsize=1)
def models() -> tuple[CatalogueModel, ...]:
    """Return the catalogue, in the order of the file."""
    text = files("finetune_operator.planning").joinpath("data/models.json").read_text()
    return tuple(
        CatalogueModel(
            name=entry["name"], aliases=tuple(entry["aliases"]), config=entry["config"], source=entry["source"]
        )
        for entry in json.loads(text)
    )


def catalogue_entry(name: str) -> CatalogueModel | None:
    """Return the entry of a hub name; None where the catalogue has none. Case does not matter."""
    wanted = name.lower()
    return next((one for one in models() if wanted in {known.lower() for known in (one.name, *one.aliases)}), None)


def model_named(name: str) -> ModelArchitecture | None:
    """Return the architecture of a catalogue model, None where the catalogue has none of that name."""
    found = catalogue_entry(name)
    return None if found is None else found.architecture
