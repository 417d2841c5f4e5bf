"""The objects that serve a result as YAML, and the files that are published beside it. Part of contract."""

from collections.abc import Iterable
from typing import Any

import yaml

from finetune_contract.pods import Manifest
from finetune_contract.served import ENGINES, Load, NotServable, ServingFacts
from finetune_contract.serving.objects import Result, objects, serving_of


class Unfolded(yaml.SafeDumper):  # type: ignore[misc]  # yaml has no types
    """Writes a value wherever it occurs, without anchors."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - as yaml calls it
        """Nothing gets a name."""
        return True


def as_yaml(found: Iterable[Manifest]) -> str:
    """Return objects for `kubectl apply -f -`."""
    return "---\n".join(yaml.dump(item, Dumper=Unfolded, sort_keys=False) for item in found)


def files(result: Result, facts: ServingFacts) -> dict[str, str]:
    """Return the text for each engine that serves the result, by file name."""
    return {f"{engine}.yaml": text for engine in ENGINES if (text := _text(engine, result, facts))}


def _text(engine: Any, result: Result, facts: ServingFacts) -> str:
    try:
        return as_yaml(objects(engine, serving_of([result], facts, engine, Load())))
    except NotServable:
        return ""
