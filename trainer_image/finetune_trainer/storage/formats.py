"""What a folder is that is not a model in the transformers format: the message names it and says how to get one. Called by weights."""

import json
import re
from collections.abc import Iterable

from finetune_trainer.errors import UserError
from finetune_trainer.storage.naming import some
from finetune_trainer.storage.store import Store

WEIGHTS = ".safetensors"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
INDEX_ENDING = ".safetensors.index.json"
INDEX = f"model{INDEX_ENDING}"
SINGLE = "model.safetensors"
CONFIG = "config.json"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTERS = (ADAPTER_WEIGHTS, "adapter_model.bin")
GGUF = ".gguf"
ORIGINAL = f"set spec.model.source to the original model, which has {CONFIG} and .safetensors files"
FOREIGN = (
    (re.compile(r"(^|/)(blobs/sha256-|manifests/)"), "a model store of Ollama", ORIGINAL),
    (re.compile(r"\.(onnx|onnx_data)$"), "a model in the ONNX format, which is for inference only", ORIGINAL),
    (re.compile(r"(^|/)openvino_\w+\.(bin|xml)$"), "a model in the OpenVINO format, which is for inference only", ORIGINAL),
    (re.compile(r"\.(tflite|mlmodel|engine|plan|mnn|rknn)$|\.mlpackage/"), "a model that was compiled for inference", ORIGINAL),
    (re.compile(r"\.(h5|msgpack)$"), "a model with TensorFlow or Flax weights only", ORIGINAL),
    (re.compile(r"(^|/)weights(\.\d+)?\.npz$"), "a model of MLX", ORIGINAL),
    (re.compile(r"\.keras$"), "a Keras model", ORIGINAL),
    (re.compile(r"(^|/)rank\d+\.safetensors$"), "a checkpoint of TensorRT-LLM", ORIGINAL),
    (re.compile(r"(^|/)(mp_rank_\d+\w*/model_optim_rng\.pt|model_optim_rng\.pt|latest_checkpointed_iteration\.txt)$"),
     "a Megatron checkpoint", "export it to the transformers format with Megatron Bridge"),
    (re.compile(r"\.nemo$|(^|/)model_weights/"), "a NeMo checkpoint", "export it to the transformers format with NeMo"),
    (re.compile(r"\.(zip|tar|tar\.\w+|tgz|7z|rar)$"), "a model in an archive", "unpack it and set spec.model.source to its folder"),
)  # fmt: skip
"""Files of other formats: what the folder is, and what to do. Looked for where there is nothing that could be trained."""

OWN_FORMAT = "consolidated"
"""How the names of weight files begin that Meta and Mistral publish in formats of their own."""


def refuse_other_formats(store: Store, names: set[str]) -> None:
    """Raise UserError for an adapter, a GGUF file, or a folder without config.json."""
    _refuse_adapter(store, names)
    gguf = sorted(name for name in names if name.lower().endswith(GGUF))
    if gguf and not any(is_weight(name) for name in names):
        raise UserError(
            "ModelUnsupported",
            f"{store.uri} holds a GGUF file ({some(gguf)}), a format for inference only: set spec.model.source to the "
            "original model, which has config.json and .safetensors files",
        )
    if CONFIG not in names:
        raise _without_config(store, sorted(names))


def without_weights(store: Store, paths: Iterable[str]) -> UserError:
    """Return the error for a model folder that has no .safetensors files beside its config.json."""
    found = sorted(paths)
    pickles = [path for path in found if path.lower().endswith(PICKLES)]
    if foreign := _foreign(store, found):
        return foreign
    if sharded := [path for path in found if path.endswith(".distcp")]:
        return _unsupported(
            f"{store.uri} is an FSDP checkpoint ({some(sharded)}): convert it with `accelerate merge-weights`, and copy the "
            f"{SINGLE} that it writes next to {CONFIG}"
        )
    if sharded := [path for path in pickles if path.endswith("_states.pt")]:
        return _unsupported(
            f"{store.uri} is a DeepSpeed checkpoint ({some(sharded)}): convert it with its zero_to_fp32.py and "
            f"--safe_serialization, and copy the .safetensors files that it writes next to {CONFIG}"
        )
    if unfinished := [path for path in found if path.endswith(".incomplete")]:
        return _invalid(f"the download of {store.uri} did not finish ({some(unfinished)}): download the model again")
    if own := [path for path in pickles if _file(path).startswith(OWN_FORMAT)]:
        return _own_format(store, own)
    if pickles:
        return _unsupported(
            f"{store.uri} has its weights in pickle files only ({some(pickles)}), which can run code when loaded: only "
            "safetensors are read. Load it where running that code is safe and save it with save_pretrained, which writes "
            f"{SINGLE}"
        )
    if deeper := [path for path in found if path.endswith(WEIGHTS)]:
        return _invalid(
            f"{store.uri} has its .safetensors files in a folder below {CONFIG} ({some(deeper)}): move them next to it"
        )
    return _invalid(
        f"{store.uri} has no .safetensors files: copy the weights next to {CONFIG}, or save them with save_pretrained"
    )


def unnamed_weights(store: Store, weights: list[str]) -> UserError:
    """Return the error for weight files that are neither model.safetensors nor the parts of an index."""
    if own := [name for name in weights if name.startswith(OWN_FORMAT)]:
        return _own_format(store, own)
    if foreign := _foreign(store, weights):
        return foreign
    if method := _quantised(store):
        return _unsupported(
            f"the weights of {store.uri} ({some(weights)}) are already quantised ({method}) and cannot be trained: use the "
            "unquantised model; method qlora quantises it while loading"
        )
    return _invalid(
        f"{store.uri} has no {SINGLE}, only {some(weights)}: if that is the whole model, rename it to {SINGLE}"
    )


def _quantised(store: Store) -> str:
    """Return how config.json says that weights are quantised; empty where it does not."""
    try:
        described = json.loads(store.read_text(CONFIG) or "{}").get("quantization_config") or {}
        return str(described.get("quant_method", ""))
    except (ValueError, AttributeError):
        return ""


def is_weight(path: str) -> bool:
    """Say whether transformers would look at a file for weights."""
    return "/" not in path and path.endswith(WEIGHTS)


def _refuse_adapter(store: Store, names: set[str]) -> None:
    whole = {SINGLE, INDEX} & names
    if ADAPTER_CONFIG in names and whole:
        raise _invalid(
            f"{store.uri} holds {ADAPTER_CONFIG} beside the weights of a whole model: transformers would load the base model that "
            f"it names instead. Remove {ADAPTER_CONFIG}"
        )
    signs = sorted(names & {ADAPTER_CONFIG, *ADAPTERS})
    if signs and not whole:
        raise _unsupported(
            f"{store.uri} is an adapter (it holds {signs[0]}), not a whole model: set spec.model.source to its base "
            f"model{_base_of(store)} and spec.lora.initialAdapter to the adapter"
        )


def _base_of(store: Store) -> str:
    """Name the model that an adapter was made for, in brackets; empty where its configuration does not say."""
    try:
        described = json.loads(store.read_text(ADAPTER_CONFIG) or "{}")
    except ValueError:
        return ""
    base = described.get("base_model_name_or_path") if isinstance(described, dict) else None
    return f" ({base})" if isinstance(base, str) and base else ""


def _without_config(store: Store, paths: list[str]) -> UserError:
    if own := [path for path in paths if _file(path).startswith(OWN_FORMAT)]:
        return _own_format(store, own)
    lower = [path.removesuffix(f"/{CONFIG}") for path in paths if path.endswith(f"/{CONFIG}")]
    if "model_index.json" in paths:
        return _unsupported(f"{store.uri} is a diffusion pipeline (it holds model_index.json), not a language model")
    if lower and not store.uri.startswith("hf://"):
        return UserError(
            "ModelNotFound",
            f"{store.uri} has no {CONFIG}, but the folders below it do ({some(lower)}): set spec.model.source to one of "
            f"them, such as {store.uri}/{lower[0]}",
        )
    return _foreign(store, paths) or UserError(
        "ModelNotFound",
        f"{store.uri} has no {CONFIG}, only {some(paths)}: it is not a model in the transformers format. Set spec.model.source to a "
        f"folder with {CONFIG}, tokenizer.json and .safetensors files",
    )


def _foreign(store: Store, paths: Iterable[str]) -> UserError | None:
    """Return the error for a folder whose files belong to another format; None where none of them does."""
    found = list(paths)
    for pattern, what, remedy in FOREIGN:
        if files := [path for path in found if pattern.search(path)]:
            return _unsupported(f"{store.uri} is {what} ({some(files)}): {remedy}")
    return None


def _own_format(store: Store, files: list[str]) -> UserError:
    return _unsupported(
        f"{store.uri} has its weights only in the format of Meta's or Mistral's own code ({some(files)}): use a repository "
        f"that has {CONFIG} and {SINGLE}, or parts of it with {INDEX}"
    )


def _file(path: str) -> str:
    return path.rpartition("/")[2]


def _unsupported(message: str) -> UserError:
    return UserError("ModelUnsupported", message)


def _invalid(message: str) -> UserError:
    return UserError("ModelInvalid", message)
