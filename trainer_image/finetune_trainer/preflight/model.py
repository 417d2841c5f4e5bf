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

from finetune_contract import Model

from finetune_trainer.chat.stops import Tokenizer
from finetune_trainer.errors import UserError
from finetune_trainer.model.tokenizer import load_tokenizer
from finetune_trainer.preflight.completeness import (
    HEAD,
    check_names,
    check_shapes,
    check_towers,
    embedding_name,
    families,
    text_tensors,
)
from finetune_trainer.preflight.family import (
    GATHER,
    GATHER_HERE,
    NESTED,
    check_family,
    check_kind,
    generation_config,
    object_of,
    text_config,
)
from finetune_trainer.preflight.numbers import check_numbers
from finetune_trainer.preflight.template import check_stops
from finetune_trainer.storage import Role, Store, StoredFile, open_location
from finetune_trainer.storage.formats import WEIGHTS
from finetune_trainer.storage.headers import Tensor, alike, is_pointer, pointer_refused, published_dtype, read_headers
from finetune_trainer.storage.naming import some
from finetune_trainer.storage.weights import (
    ModelFiles,
    descriptions,
    model_files,
    refuse_unpinned_code,
    weight_bytes,
)

COSMETIC = re.compile(
    r"_token_id$|^_|transformers_version|initializer|dropout|rope|_pdrop$|^vision|^audio|^image|^video|^boi|^eoi|"
    r"torch_dtype|^dtype$|use_cache|eps|epsilon|pretraining_tp|output_|return_dict|_std$|gradient_checkpointing|auto_map"
)
"""Keys that no parameter count and no memory term depends on."""

LARGEST_CONFIG_BYTES = 1400
"""Of the 4,096 bytes of a termination message."""

SAMPLED_BYTES = 1 << 20
"""Read from both ends of a weight file for its digest: training changes all bytes, so any part will do."""

SENTENCE_TRANSFORMERS = "config_sentence_transformers.json"

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
    dtype: str
    """As PreflightReport.model_dtype."""
    length_limit: int
    """Positions."""
    tokenizer: Tokenizer
    folder: Path
    """Configuration and tokenizer; weights only where the model is used in place."""
    decoder: Any
    """Configuration of the text decoder, as transformers reads it."""
    tensors: dict[str, Tensor]
    """Of the text decoder, by name; empty for a model of Python code of its own."""
    warnings: tuple[str, ...] = ()

    @property
    def embedding_rows(self) -> int:
        """Tokens that the model has an embedding for; 0 where its files do not say."""
        return int(self.decoder.vocab_size) if self.tensors else 0


def examine_model(model: Model, into: Path) -> ExaminedModel:
    """Fetch all but the weights, read the headers of those, and check that they contradict nothing.

    Raises UserError (ModelNotFound, ModelUnauthorized, ModelUnsupported, ModelInvalid, InvalidSpec) or StorageUnavailable.
    """
    refuse_unpinned_code(model)
    store = open_location(model.location, Role.MODEL, revision=model.revision)
    chosen = model_files(store, code=model.trust_remote_code)
    folder = store.fetch(into, descriptions(chosen.files))
    refuse_pointers(folder, descriptions(chosen.files), store.uri)
    raw = object_of(folder / "config.json", store.uri)
    check_family(raw, model, store.uri)
    decoder = text_config(folder, raw, model)
    headers = _read_headers(store, chosen)
    tensors = _checked(store, headers, raw, decoder)
    config = flattened(raw)
    generation = generation_config(folder, store.uri)
    tokenizer = load_tokenizer(folder, model)
    check_stops(generation, decoder.vocab_size, tokenizer, store.uri)
    return ExaminedModel(
        revision=store.revision or files_digest(store, chosen.files),
        config=reduced(config),
        weight_bytes=weight_bytes(chosen.files),
        dtype=published_dtype(tensor.dtype for tensor in headers.values()),
        length_limit=_length_limit(config, tokenizer),
        tokenizer=tokenizer,
        folder=folder,
        decoder=decoder,
        tensors=tensors,
        warnings=(*chosen.warnings, *_embedding_note(chosen.files, store.uri)),
    )


def check_complete(model: ExaminedModel, uri: str) -> None:
    """Raise UserError(ModelInvalid) where tensors are missing or left over."""
    if model.tensors:
        check_names(model.tensors, model.decoder, int(model.config.get("num_nextn_predict_layers", 0)), uri)


def refuse_pointers(folder: Path, paths: Iterable[str], uri: str) -> None:
    """Raise UserError(ModelInvalid) for a file that git-lfs has not fetched."""
    for path in paths:
        with (folder / path).open("rb") as file:
            if is_pointer(file.read(64)):
                raise pointer_refused(uri, path)


def _read_headers(store: Store, chosen: ModelFiles) -> dict[str, Tensor]:
    headers = read_headers(store, [file for file in chosen.files if file.path.endswith(WEIGHTS)])
    if not headers:
        raise UserError("ModelInvalid", f"the weight files of {store.uri} hold no tensors: save the model again")
    try:
        check_kind(headers, store.uri, gather=_gathered(store))
    except UserError as error:  # the files beside them may be those that were meant
        raise UserError(error.reason, "; note that ".join((error.message, *chosen.unread))) from error
    return headers


def _checked(store: Store, headers: dict[str, Tensor], raw: dict[str, Any], decoder: Any) -> dict[str, Tensor]:
    """Return the tensors of the text decoder, which contradict nothing; empty for a model of Python code of its own."""
    check_towers(headers, raw, store.uri)
    if decoder.model_type not in families():
        return {}
    tensors = text_tensors(headers, decoder.model_type)
    if not tensors:
        raise UserError("ModelInvalid", f"{store.uri} holds no weights of a text model, only {some(sorted(headers))}")
    check_shapes(tensors, decoder, store.uri)
    check_numbers(store, tensors)
    _check_tied(store, tensors, decoder)
    return tensors


def _gathered(store: Store) -> str:
    """Say how to gather the parts of a model: with the script that DeepSpeed left beside them, where it lies there."""
    return GATHER_HERE if any(file.path == "zero_to_fp32.py" for file in store.files()) else GATHER


def _check_tied(store: Store, tensors: dict[str, Tensor], decoder: Any) -> None:
    """Refuse a head that config.json ties to the embeddings and that differs from them: each program would take another one."""
    table = embedding_name(decoder.model_type)
    if not decoder.tie_word_embeddings or HEAD not in tensors or table not in tensors:
        return
    if not alike(store, tensors[HEAD], tensors[table]):
        raise UserError(
            "ModelInvalid",
            f"config.json of {store.uri} ties the head to the embeddings (tie_word_embeddings), but {HEAD} differs from {table}: set "
            "tie_word_embeddings to false if the head was trained, or save the model again without it",
        )


def _embedding_note(files: Iterable[StoredFile], uri: str) -> tuple[str, ...]:
    """Warn of a model that sentence-transformers saved: it was trained to compare texts, and may load as a language model."""
    if not any(file.path == SENTENCE_TRANSFORMERS for file in files):
        return ()
    return (
        f"{uri} holds {SENTENCE_TRANSFORMERS}, so it is an embedding model: it may no longer write text. Use the language model that "
        "it was made from",
    )


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


def _length_limit(config: dict[str, Any], tokenizer: Tokenizer) -> int:
    for key in ("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx"):
        if isinstance(config.get(key), int) and config[key] > 0:
            return int(config[key])
    return min(int(tokenizer.model_max_length), UNBOUNDED_TOKENS)
