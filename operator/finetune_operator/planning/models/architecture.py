"""From a model's config.json to exact parameter counts. Called by lifecycle and the command line; feeds the planner.

Nothing is guessed: a family that is not in family_table is refused. Read next: config, families.
"""

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from finetune_operator.api.plan import ModelArchitecture
from finetune_operator.errors import JobError
from finetune_operator.planning.models.config import Config, text_model_type, text_values
from finetune_operator.planning.models.families import Family, Linear
from finetune_operator.planning.models.family_table import FAMILIES, SAME_AS
from finetune_operator.planning.models.trainable import check_trainable

CONFIG_CHARACTERS = 4096
"""What status has room for (api.plan.ModelArchitecture.config)."""


def architecture(config: Mapping[str, Any]) -> ModelArchitecture:
    """Return the exact shape of the text decoder of a config.json, whole or as preflight reduced it.

    Raises JobError("ModelUnsupported") for a family that we do not know, a key that is missing, quantised weights or a class
    without a language head.
    """
    found = _architecture(json.dumps(_relevant(config), sort_keys=True, separators=(",", ":")))
    check_trainable(config)
    return found


WHOLE_TYPE = "whole_model_type"
"""Beside the decoder's numbers: the model_type of the multimodal model that it is a part of."""


@lru_cache(maxsize=256)
def _architecture(text: str) -> ModelArchitecture:
    raw = json.loads(text)
    family, values = _family(raw)
    parts = linears_of(family, values)
    embeddings = _embeddings(family, values)
    head = sum(part.num_parameters for part in parts if part.role == "head")
    body = sum(part.num_parameters for part in parts) - head + _vectors(family, values)
    idle = sum(part.num_parameters - part.num_active_parameters for part in parts)
    experts = max((part.experts for part in parts), default=0)
    moe = family.moe if experts else None
    return ModelArchitecture(
        model_type=text_model_type(raw),
        num_parameters=body + head + embeddings,
        num_embedding_parameters=head + embeddings,
        num_active_parameters=body + head + embeddings - idle,
        hidden_size=values.hidden,
        intermediate_size=values.number(moe.width) if moe else _mlp_width(parts),
        num_layers=values.layers,
        num_attention_heads=values.heads,
        num_key_value_heads=_key_value_heads(values),
        head_dim=values.head_dim,
        vocab_size=values.number("vocab_size"),
        max_position_embeddings=values.optional("max_position_embeddings", 4096),
        tied_embeddings=values.flag("tie_word_embeddings"),
        num_experts=experts,
        experts_per_token=values.number(moe.top_k) if moe else 0,
        config=text,
    )


def linears(shape: ModelArchitecture) -> tuple[Linear, ...]:
    """Return every matrix of the decoder, the output head included where it is not tied."""
    return _linears(shape.config)


@lru_cache(maxsize=256)
def _linears(text: str) -> tuple[Linear, ...]:
    family, values = _family(json.loads(text))
    return linears_of(family, values)


def norms(shape: ModelArchitecture) -> tuple[int, bool]:
    """Return the norms over the residual stream per layer, and whether queries and keys are normed too."""
    family, values = _family(json.loads(shape.config))
    return family.norms or 2, bool(family.qk_norm) or values.flag("use_qk_norm") or values.flag("qk_layernorm")


def caps_scores(shape: ModelArchitecture) -> bool:
    """Return whether attention scores pass a tanh: in Gemma 2, unless its config says otherwise."""
    default = 50.0 if shape.model_type == "gemma2" else None
    return bool(json.loads(shape.config).get("attn_logit_softcapping", default))


SLIDING = {
    "gemma2": 2,
    "gemma3_text": 6,
    "cohere2": 4,
    "gpt_oss": 2,
    "mistral": 0,
    "mixtral": 0,
    "phi3": 0,
    "starcoder2": 0,
}
"""Families whose layers see a window of tokens: every layer (0), or all but each n-th, as their transformers classes say."""


def sliding_layers(shape: ModelArchitecture) -> tuple[int, int]:
    """Return how many layers see only a window of tokens, and how wide that is; (0, 0) where none does."""
    return _sliding_layers(shape.config)


@lru_cache(maxsize=256)
def _sliding_layers(text: str) -> tuple[int, int]:
    raw = json.loads(text)
    values, model_type = Config(text_values(raw)), text_model_type(raw)
    window, counted = values.optional("sliding_window"), values.counts("layer_types")
    if not window:
        return 0, 0
    if counted:
        return counted.get("sliding_attention", 0), window
    if model_type not in SLIDING:
        return 0, 0
    period = values.optional("sliding_window_pattern", SLIDING[model_type])
    return values.layers - (values.layers // period if period else 0), window


def family_of(shape: ModelArchitecture) -> Family:
    """Return the family that a model belongs to."""
    return _family(json.loads(shape.config))[0]


def linears_of(family: Family, values: Config) -> tuple[Linear, ...]:
    """Return the matrices of a family at the sizes of a config."""
    parts = [part for part in (*family.attention(values, family), *family.mlp(values, family)) if part.count]
    if not values.flag("tie_word_embeddings"):
        parts.append(
            Linear(
                name="lm_head", inputs=values.hidden, outputs=values.number("vocab_size"), count=1, role="head",
                bias=family.says(family.head_bias, values),
            )
        )  # fmt: skip
    return tuple(parts)


def whole_model_type(shape: ModelArchitecture) -> str:
    """Return the type of the whole model, which is another one than its decoder's in a multimodal model."""
    return str(json.loads(shape.config).get(WHOLE_TYPE, shape.model_type))


def _relevant(config: Mapping[str, Any]) -> dict[str, Any]:
    """Drop what no family reads: status has little room. Nested decoders are lifted, as preflight does."""
    kept = {key: value for key, value in text_values(config).items() if _is_small(value)}
    kept["model_type"] = text_model_type(config)
    if config.get("model_type") not in (None, kept["model_type"]):
        kept[WHOLE_TYPE] = config["model_type"]
    if len(json.dumps(kept)) > CONFIG_CHARACTERS:
        kept = {
            key: value for key, value in kept.items() if not isinstance(value, str) or key in ("model_type", WHOLE_TYPE)
        }
    return kept


def _is_small(value: Any) -> bool:  # any JSON value
    if isinstance(value, list):
        return len(value) <= 128 and all(isinstance(item, (str, int)) for item in value)
    return isinstance(value, (bool, int, float, str)) and (not isinstance(value, str) or len(value) <= 256)


def _family(raw: Mapping[str, Any]) -> tuple[Family, Config]:
    kind = text_model_type(raw)
    kind = SAME_AS.get(kind, kind)
    if kind not in FAMILIES:
        known = ", ".join(sorted(FAMILIES))
        raise JobError(
            "ModelUnsupported",
            f"models with model_type {kind!r} are not supported. Supported families: {known}",
        )
    family = FAMILIES[kind]
    return family, Config({**family.defaults, **text_values(raw)})


def _key_value_heads(values: Config) -> int:
    if values.flag("multi_query") and not values.flag("new_decoder_architecture"):
        return 1
    return values.optional("num_kv_heads", values.key_value_heads)


def _mlp_width(parts: Iterable[Linear]) -> int:
    """Return the width of the widest dense MLP: the input of its last projection."""
    return max((part.inputs for part in parts if part.role == "mlp" and "down" in part.name), default=0) or max(
        (part.outputs for part in parts if part.role == "mlp"), default=0
    )


def _embeddings(family: Family, values: Config) -> int:
    return values.number("vocab_size") * values.hidden + family.embeddings(values)


def _vectors(family: Family, values: Config) -> int:
    """Count the norms, by what the family says, and whatever else is no matrix."""
    norms = family.norms * values.layers + family.final_norm
    total = norms * values.hidden * (2 if family.norm_bias else 1)
    if family.qk_norm == "head":
        total += values.layers * 2 * values.head_dim
    elif family.qk_norm == "width":
        total += values.layers * (values.query_width + values.key_value_width)
    if family.norms == 0:
        total = 0
    return total + family.vectors(values)
