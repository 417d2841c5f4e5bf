"""Is a config.json that of an unquantised language model? Called by architecture: what preflight would refuse is not planned."""

import re
from collections.abc import Mapping
from typing import Any

from finetune_operator.errors import JobError
from finetune_operator.planning.models.config import NESTED

LANGUAGE_HEAD = re.compile(r"CausalLM|LMHead|ConditionalGeneration")
"""In the names of transformers classes that write text."""


def check_trainable(config: Mapping[str, Any]) -> None:
    """Raise JobError("ModelUnsupported") for weights that are quantised and for classes without a language head."""
    for place, part in {"": config, **_nested(config)}.items():
        found = part.get("quantization_config") or part.get("compression_config")
        if found:
            method = found.get("quant_method", "unknown") if isinstance(found, Mapping) else found
            raise JobError(
                "ModelUnsupported",
                f"config.json: {place}quantization_config says that the weights are already quantised ({method}) and cannot "
                "be trained: use the config.json of the unquantised model; method qlora quantises it while loading",
            )
    for name in _classes(config.get("architectures")):
        if not LANGUAGE_HEAD.search(name):
            raise JobError(
                "ModelUnsupported",
                f"config.json: architectures names {name}, which has no language head, such as a classifier, a reward model or an "
                "encoder: use the config.json of the language model that it was made from",
            )


def _nested(config: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {f"{key}.": config[key] for key in NESTED if isinstance(config.get(key), Mapping)}


def _classes(found: Any) -> list[str]:  # any JSON value; preflight's config has the first name only
    return [found] if isinstance(found, str) else [str(name) for name in found] if isinstance(found, list) else []
