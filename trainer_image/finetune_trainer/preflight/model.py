"""Examine the base model: is it there, may we read it, can it be tuned, what does sizing need of its config."""

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_contract import Model, shorten
from transformers import AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from finetune_trainer.chat.turns import Tokenizer
from finetune_trainer.errors import UserError
from finetune_trainer.storage import Role, Store, StoredFile, open_location
from finetune_trainer.storage.weights import WEIGHTS, descriptions, model_files, refuse_unpinned_code, weight_bytes

NESTED = ("text_config", "llm_config", "language_config")
"""Where multimodal models keep the configuration of their decoder."""

COSMETIC = re.compile(
    r"_token_id$|^_|transformers_version|initializer|dropout|rope|_pdrop$|^vision|^audio|^image|^video|^boi|^eoi|"
    r"torch_dtype|^dtype$|use_cache|eps|epsilon|pretraining_tp|output_|return_dict|_std$|gradient_checkpointing|auto_map"
)
"""Keys that no parameter count and no memory term depends on."""

LARGEST_CONFIG_BYTES = 1400
"""Of the 4,096 bytes of a termination message."""

SAMPLED_BYTES = 1 << 20
"""Read from both ends of a weight file for its digest: training changes all bytes, so any part will do."""

UNBOUNDED_TOKENS = 1_048_576
"""Positions of a model that does not say; the API's largest sequence length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExaminedModel:
    """A base model that can be tuned."""

    revision: str
    """Commit of a hub repository, else a digest of the files."""
    config: dict[str, Any]
    """As PreflightReport.model_config."""
    weight_bytes: int
    length_limit: int
    """Positions."""
    tokenizer: Tokenizer
    folder: Path
    """Configuration and tokenizer; weights only where the model is used in place."""


def examine_model(model: Model, into: Path) -> ExaminedModel:
    """Fetch all but the weights and check them.

    Raises UserError (ModelNotFound, ModelUnauthorized, ModelUnsupported, InvalidSpec) or StorageUnavailable.
    """
    refuse_unpinned_code(model)
    store = open_location(model.location, Role.MODEL, revision=model.revision)
    files = model_files(store, code=model.trust_remote_code)
    folder = store.fetch(into, descriptions(files))
    raw = _config(folder / "config.json", store.uri)
    _check_family(raw, model, store.uri)
    config = flattened(raw)
    tokenizer = load_tokenizer(folder, model)
    return ExaminedModel(
        revision=store.revision or files_digest(store, files),
        config=reduced(config),
        weight_bytes=weight_bytes(files),
        length_limit=_length_limit(config, tokenizer),
        tokenizer=tokenizer,
        folder=folder,
    )


def load_tokenizer(folder: Path, model: Model) -> Tokenizer:
    """Load the tokenizer from a local folder. Raises UserError(ModelUnsupported) with what is wrong."""
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=model.trust_remote_code)
    except (OSError, ValueError, KeyError, ImportError, AttributeError) as error:
        problem = shorten(" ".join(str(error).split()), 300)
        raise UserError(
            "ModelUnsupported",
            f"the tokenizer of {model.location.uri} cannot be loaded ({problem}): tokenizer.json and "
            "tokenizer_config.json must be beside config.json",
        ) from error


def flattened(config: dict[str, Any]) -> dict[str, Any]:
    """Lift the decoder's nested configuration over the top level; its model_type becomes text_model_type."""
    nested: dict[str, Any] = next((config[name] for name in NESTED if isinstance(config.get(name), dict)), {})
    lifted = {key: value for key, value in nested.items() if key not in ("model_type", "architectures")}
    inner = {"text_model_type": nested["model_type"]} if "model_type" in nested else {}
    return {**{key: value for key, value in config.items() if key not in NESTED}, **lifted, **inner}


def reduced(config: dict[str, Any]) -> dict[str, Any]:
    """Return the keys that sizing needs, as numbers, strings and booleans: lists become counts."""
    small = {key: _small(key, value) for key, value in config.items() if not COSMETIC.search(key)}
    kept = {key: value for key, value in small.items() if value is not None}
    while len(json.dumps(kept)) > LARGEST_CONFIG_BYTES:  # only a config with long texts of its own comes here
        del kept[max(kept, key=lambda key: len(str(kept[key])))]
    return kept


def files_digest(store: Store, files: Iterable[StoredFile]) -> str:
    """Return a digest of a model's files: small files whole, weights by size and both ends."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.path}\0{file.size_bytes}\0".encode())
        with store.open(file.path) as opened:
            digest.update(opened.read(SAMPLED_BYTES if file.path.endswith(WEIGHTS) else -1))
            if file.path.endswith(WEIGHTS) and file.size_bytes > 2 * SAMPLED_BYTES:
                opened.seek(-SAMPLED_BYTES, os.SEEK_END)
                digest.update(opened.read(SAMPLED_BYTES))
    return "sha256:" + digest.hexdigest()


def _small(key: str, value: Any) -> Any:
    match value:
        case bool() | int() | float():
            return value
        case str():
            return value[:256]
        case [str(first), *_] if key == "architectures":
            return first
        case [str(), *_]:
            return ",".join(f"{name}:{count}" for name, count in Counter(map(str, value)).items())
        case list():
            return len(value)
        case dict() if key == "quantization_config":
            return str(value.get("quant_method", "unknown"))
        case _:
            return None


def _config(file: Path, uri: str) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text())
    except ValueError as error:
        raise UserError("ModelUnsupported", f"config.json of {uri} is not JSON ({error})") from error
    if not isinstance(value, dict):
        raise UserError("ModelUnsupported", f"config.json of {uri} is not an object")
    return value


def _check_family(config: dict[str, Any], model: Model, uri: str) -> None:
    """Refuse what is no decoder, needs code that may not run, or is quantised already."""
    kind = config.get("model_type")
    if "auto_map" in config and kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and not model.trust_remote_code:
        raise UserError(
            "ModelUnsupported",
            f"{uri} brings its own Python code: set model.trustRemoteCode with a pinned revision, or choose another",
        )
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and not model.trust_remote_code:
        named = ", ".join(config.get("architectures") or ["no architecture"])
        raise UserError(
            "ModelUnsupported",
            f"{uri} is of type {kind!r} ({named}), no causal language model that transformers can train: choose "
            "a decoder such as Llama, Qwen, Mistral or Gemma",
        )
    if quantized := config.get("quantization_config"):
        method = quantized.get("quant_method", "unknown") if isinstance(quantized, dict) else quantized
        raise UserError(
            "ModelUnsupported",
            f"the weights of {uri} are quantised already ({method}), which cannot be trained: choose the unquantised "
            "model; method qlora quantises it while loading",
        )


def _length_limit(config: dict[str, Any], tokenizer: Tokenizer) -> int:
    for key in ("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx"):
        if isinstance(config.get(key), int) and config[key] > 0:
            return int(config[key])
    return min(int(tokenizer.model_max_length), UNBOUNDED_TOKENS)
