"""Read a Hugging Face config.json, whole or as preflight reduced it. Called by architecture; knows no model family.

Preflight sends a flat object: the text decoder's keys lifted to the top, lists collapsed to their length, lists of
layer types collapsed to "full_attention:4,sliding_attention:20". Both forms read the same here.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from finetune_operator.errors import JobError

NESTED = ("text_config", "llm_config", "language_config")
"""Where multimodal models keep the shape of their text decoder."""


EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")
"""One number, three spellings: transformers reads each as the other, and writes whichever its class prefers."""


@dataclass(frozen=True, slots=True)
class Config:
    """The keys of one text decoder; a family's own defaults stand behind them."""

    values: Mapping[str, Any]

    def number(self, key: str) -> int:
        """Return a whole number; a missing one, or one that cannot be a size, is refused."""
        value = self.values.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            found = "is missing" if value is None else f"is {value!r}, not a whole number"
            raise JobError("ModelUnsupported", f"config.json: {key} {found}, but is required to estimate the memory")
        return value

    def optional(self, key: str, default: int = 0) -> int:
        """Return a whole number, or `default` where the key is missing or null."""
        return default if self.values.get(key) is None else self.number(key)

    def flag(self, key: str) -> bool:
        """Return a truth value; false where it is missing."""
        return bool(self.values.get(key))

    def length(self, key: str) -> int | None:
        """Return the length of a list (as a list, or collapsed to a number); None where it is missing."""
        value = self.values.get(key)
        return len(value) if isinstance(value, list) else value if isinstance(value, int) else None

    def counts(self, key: str) -> Mapping[str, int]:
        """Return how often each word occurs in a list of words; empty where it is missing."""
        value = self.values.get(key)
        if isinstance(value, list):
            return Counter(str(word) for word in value)
        if not isinstance(value, str):
            return {}
        pairs = (item.rpartition(":") for item in value.split(","))
        return {word: int(count) for word, _, count in pairs if count.isdigit()}

    @property
    def hidden(self) -> int:
        """Width of the residual stream."""
        return self.number("hidden_size")

    @property
    def layers(self) -> int:
        """Decoder layers."""
        return self.number("num_hidden_layers")

    @property
    def heads(self) -> int:
        """Query heads."""
        return self.number("num_attention_heads")

    @property
    def key_value_heads(self) -> int:
        """Key and value heads; as many as query heads unless said."""
        return self.optional("num_key_value_heads", self.heads)

    @property
    def head_dim(self) -> int:
        """Width of one head; hidden size / heads unless said."""
        return self.optional("head_dim", self.hidden // max(1, self.heads))

    @property
    def query_width(self) -> int:
        """Width of all query heads."""
        return self.heads * self.head_dim

    @property
    def key_value_width(self) -> int:
        """Width of all key heads."""
        return self.key_value_heads * self.head_dim

    @property
    def mlp_width(self) -> int:
        """Width of the dense MLP."""
        return self.number("intermediate_size")


def _nested(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    return next((raw[key] for key in NESTED if isinstance(raw.get(key), Mapping)), {})


def text_model_type(raw: Mapping[str, Any]) -> str:
    """Return the model type of the text decoder."""
    nested = _nested(raw)
    found = nested.get("model_type") or raw.get("text_model_type") or raw.get("model_type")
    if not isinstance(found, str):
        raise JobError("ModelUnsupported", "config.json has no model_type: use the folder of a transformers model")
    return found


def text_values(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of the text decoder, those of a nested text_config winning; nulls dropped."""
    nested = _nested(raw)
    merged = {**{key: value for key, value in raw.items() if key not in NESTED}, **nested}
    said = {key: value for key, value in merged.items() if value is not None}
    said |= _lifted_overrides(said.pop("per_layer_config", None))
    experts = next((said[key] for key in EXPERTS if key in said), None)
    return said if experts is None else {**dict.fromkeys(EXPERTS, experts), **said}


def _lifted_overrides(overrides: Any) -> dict[str, int]:  # any JSON value
    """Name Gemma 4's sizes of full attention as Google's files do; transformers writes them per layer."""
    if not isinstance(overrides, Mapping) or not overrides:
        return {}
    sizes = next(iter(overrides.values()))
    names = {"head_dim": "global_head_dim", "num_key_value_heads": "num_global_key_value_heads"}
    return {names[key]: value for key, value in sizes.items() if key in names}
