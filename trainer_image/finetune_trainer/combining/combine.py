"""`python -m finetune_trainer combine FILE`: read, refuse what does not go together, combine, publish. Started by `finetune merge`."""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from finetune_contract import MANIFEST_FILE, CombineConfig
from finetune_contract.wire import loads
from safetensors.torch import save_file

from finetune_trainer.chat.stops import stop_token_ids, write_stops
from finetune_trainer.combining.combinable import PREFIX, A, B, refuse_other_layers, refuse_strangers
from finetune_trainer.combining.updates import (
    Adapter,
    Update,
    added,
    dropped,
    elected,
    narrowed,
    nearest,
    padded,
    read_adapter,
)
from finetune_trainer.errors import ReportedError, UserError
from finetune_trainer.publishing.adapter_facts import ADAPTER_CONFIG, ADAPTER_WEIGHTS, adapter_facts
from finetune_trainer.publishing.artifacts import file_digests, folder_digest, versions
from finetune_trainer.publishing.fetch import bring
from finetune_trainer.storage import Role, open_location
from finetune_trainer.storage.secrecy import redacted
from finetune_trainer.storage.weights import is_of_the_result

SAID_ONCE = ("peft_type", "task_type", "base_model_name_or_path", "revision", "fan_in_fan_out", "peft_version")
"""Keys of adapter_config.json that are those of every adapter of one base. Others say which layers one of them leaves out, or how it was
initialised: of the merged adapter they are not true."""


def main(file: str) -> int:
    """Combine as the file says. Returns the exit code."""
    try:
        with tempfile.TemporaryDirectory(prefix="finetune-combine-") as folder:
            print(combine(loads(CombineConfig, Path(file).read_text()), Path(folder)))
    except ReportedError as error:
        print(redacted(error.message), file=sys.stderr)
        return 1
    return 0


def combine(config: CombineConfig, scratch: Path) -> str:
    """Publish the combined adapter and say what it is. Raises UserError where the adapters do not go together."""
    output = open_location(config.output, Role.OUTPUT)
    if output.exists(MANIFEST_FILE) or output.exists(ADAPTER_CONFIG):
        raise UserError("OutputOccupied", f"{output.uri} holds a result already: choose another folder")
    made = scratch / "made"
    manifest = make(config, scratch, made)
    (made / "README.md").write_text(card(manifest))
    digests = file_digests(made)
    output.upload(made)
    whole = manifest | {"files": digests, "digest": folder_digest(digests)}
    output.write_text(MANIFEST_FILE, json.dumps(whole, indent=2) + "\n")
    facts = adapter_facts(made)
    assert facts is not None
    number = len(config.adapters)
    return f"{number} adapters combined by {config.method}: LoRA rank {facts.rank}, at {output.uri}; served by {facts.servable}"


def make(config: CombineConfig, scratch: Path, made: Path) -> dict[str, Any]:
    """Write the combined adapter into a folder; return where it comes from. Raises UserError as above."""
    folders = [scratch / str(number) for number in range(len(config.adapters))]
    for one, folder in zip(config.adapters, folders, strict=True):
        bring(one.location, folder, "", wanted=is_of_the_result)
    pairs = list(zip(config.adapters, folders, strict=True))
    adapters = [read_adapter(folder, one.location.uri) for one, folder in pairs]
    uris = [one.location.uri for one in config.adapters]
    refuse_strangers([(uri, adapter.base) for uri, adapter in zip(uris, adapters, strict=True)])
    refuse_other_layers([(uri, adapter.shapes) for uri, adapter in zip(uris, adapters, strict=True)])
    (source, revision), first = adapters[0].base, adapters[0].described
    updates = combined(config, adapters)
    del adapters  # writing takes the result a second time
    described = save(made, first, updates)
    if stops := frozenset[int]().union(*(stop_token_ids(folder) for folder in folders)):
        write_stops(next(folder for folder in folders if stop_token_ids(folder)), made, stops)
    sources = [
        {"uri": one.location.uri, "weight": one.weight, "digest": folder_digest(file_digests(folder))}
        for one, folder in pairs
    ]
    return {
        "combined": sources, "method": config.method, "density": config.density, "seed": config.seed, "rank": described["r"],
        "baseModel": {"source": source, "revision": revision}, "versions": versions(),
    }  # fmt: skip


def combined(config: CombineConfig, adapters: list[Adapter]) -> dict[str, Update]:
    """Return the updates of all layers that any adapter changes; one that does not change a layer adds nothing to it."""
    weights = [one.weight for one in config.adapters]
    if config.method == "average":
        weights = [weight / sum(weights) for weight in weights]
    largest = max(update.a.shape[0] for adapter in adapters for update in adapter.updates.values())
    found = {}
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        for name in sorted({name for adapter in adapters for name in adapter.updates}):
            having = [
                (one.updates[name], weight)
                for one, weight in zip(adapters, weights, strict=True)
                if name in one.updates
            ]
            found[name] = of_layer(config, [update for update, _ in having], [weight for _, weight in having], largest)
    width = max(update.a.shape[0] for update in found.values())
    return {name: padded(update, width) for name, update in found.items()}


def of_layer(config: CombineConfig, updates: list[Update], weights: list[float], largest: int) -> Update:
    """Return the update of one layer."""
    rank = config.rank or largest
    match config.method:
        case "average" | "linear":
            exact = added(updates, weights)
            return narrowed(exact, config.rank) if config.rank else exact
        case "svd":
            return narrowed(added(updates, weights), rank)
        case "ties":
            return nearest(elected(updates, weights, config.density), rank)
        case "dare":
            return nearest(dropped(updates, weights, config.density), rank)
    raise UserError("InvalidSpec", f"{config.method!r} is not average, linear, svd, ties or dare")


def save(folder: Path, first: dict[str, Any], updates: dict[str, Update]) -> dict[str, Any]:
    """Write a plain adapter of scale 1; return its configuration."""
    folder.mkdir(parents=True)
    rank = next(iter(updates.values())).a.shape[0]
    described = {
        **{key: first[key] for key in SAID_ONCE if key in first},
        "r": rank, "lora_alpha": rank, "use_rslora": False, "use_dora": False, "rank_pattern": {}, "alpha_pattern": {},
        "lora_dropout": 0.0, "bias": "none", "modules_to_save": None, "inference_mode": True,
        "target_modules": sorted(name.removeprefix(PREFIX) for name in updates),
    }  # fmt: skip
    pairs = ((name, one) for name, one in updates.items())
    tensors = {name + end: matrix.contiguous() for name, one in pairs for end, matrix in ((A, one.a), (B, one.b))}
    save_file(tensors, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    (folder / ADAPTER_CONFIG).write_text(json.dumps(described, indent=2, sort_keys=True) + "\n")
    return described


def card(manifest: dict[str, Any]) -> str:
    """Return the card: what was combined, and how."""
    base = manifest["baseModel"]
    rows = "".join(f"| `{one['uri']}` | {one['weight']:g} | `{one['digest']}` |\n" for one in manifest["combined"])
    revision = f" at revision `{base['revision']}`" if base["revision"] else ""
    return (
        f"---\nlibrary_name: peft\n---\n\n# Combined by {manifest['method']}\n\nLoRA rank {manifest['rank']}, for `{base['source']}`"
        f"{revision}.\n\n| adapter | weight | digest |\n|---|---|---|\n{rows}"
    )
