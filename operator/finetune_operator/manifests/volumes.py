"""Volumes of the Pods, and the environment that says where they are mounted. Called by pod and preflight.

Claims and Secrets are told apart by name in the mount path, not in the volume's name: those may be 253 characters long.
"""

import functools
from collections.abc import Iterable
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import finetune_contract as contract
from finetune_contract import pods
from finetune_contract.pods import claim_of, claims_of, secrets_of, variable

from finetune_operator.manifests import names
from finetune_operator.manifests.labels import Manifest

RUN_FOLDER, RUN_FILE = "/etc/finetune", "run.json"
WORKSPACE = "/workspace"
TERMINATION_LOG = "/dev/termination-log"
CONFIG_MAPS_FOLDER = "/mnt/config-maps"
CONFIG_MAP = "configmap://"
SHARED_MEMORY = "/dev/shm"  # noqa: S108 - the mount point that NCCL and torch use

CACHE_FOLDERS = {
    "HF_HOME": "huggingface",
    "TRITON_CACHE_DIR": "triton",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "XDG_CACHE_HOME": "cache",
    "MPLCONFIGDIR": "matplotlib",
}
"""The root file system is read-only, so every library is told to write below the workspace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """What of the namespace a Pod needs mounted."""

    claims: tuple[tuple[str, bool], ...]
    """PersistentVolumeClaims by name, each with whether it is only read."""
    secrets: tuple[str, ...]
    config_maps: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """ConfigMaps by name, each with the keys that are read."""


def storage(config: contract.PreflightConfig | contract.RunConfig | contract.ExportConfig) -> Storage:
    """Return the claims and Secrets that a configuration speaks of. Only output and checkpoints are written."""
    places = tuple(locations(config))
    checkpoint = config.checkpoint
    written_places = (config.output, checkpoint if isinstance(checkpoint, contract.Location) else checkpoint.location)
    written = {claim_of(place.uri) for place in written_places}
    return Storage(
        claims=tuple((claim, claim not in written) for claim in claims_of(places)),
        secrets=secrets_of(places),
        config_maps=config_maps(place.uri for place in places),
    )


def config_maps(uris: Iterable[str]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return the ConfigMaps of configmap:// locations with their keys."""
    pairs = sorted({uri.removeprefix(CONFIG_MAP).partition("/")[::2] for uri in uris if uri.startswith(CONFIG_MAP)})
    return tuple((name, tuple(key for other, key in pairs if other == name)) for name in dict(pairs))


def locations(value: object) -> Iterable[contract.Location]:
    """Yield every Location inside a configuration, however deep: none can be forgotten."""
    if isinstance(value, contract.Location):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from locations(item)
    elif is_dataclass(value):
        for name in _names(type(value)):  # type: ignore[arg-type]  # a class is hashable
            if not isinstance(held := getattr(value, name), str | int | float):  # most fields
                yield from locations(held)


@functools.cache
def _names(kind: type[Any]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


def volumes(needed: Storage, *, workspace_gib: int) -> list[Manifest]:
    """Return the Pod's volumes: run.json, the workspace, claims, Secrets and ConfigMaps."""
    path = f"metadata.annotations['{names.RUN_ANNOTATION}']"
    return [
        {"name": "run", "downwardAPI": {"items": [{"path": RUN_FILE, "fieldRef": {"fieldPath": path}}]}},
        {"name": "workspace", "emptyDir": {"sizeLimit": f"{workspace_gib}Gi"}},
        *pods.storage_volumes([claim for claim, _ in needed.claims], needed.secrets),
        *(config_map_volume(number, *named) for number, named in enumerate(needed.config_maps)),
    ]


def config_map_volume(number: int, name: str, keys: tuple[str, ...]) -> Manifest:
    """Return a volume with some keys of a ConfigMap. It may arrive later, as Secrets may: preflight says what is missing."""
    items = [{"key": key, "path": key} for key in keys]
    return {"name": f"config-map-{number}", "configMap": {"name": name, "items": items, "optional": True}}


def mounts(needed: Storage) -> list[Manifest]:
    """Return where the container sees the volumes."""
    return [
        {"name": "run", "mountPath": RUN_FOLDER, "readOnly": True},
        {"name": "workspace", "mountPath": WORKSPACE},
        *pods.storage_mounts(needed.claims, needed.secrets),
        *(
            {"name": f"config-map-{number}", "mountPath": f"{CONFIG_MAPS_FOLDER}/{name}", "readOnly": True}
            for number, (name, _) in enumerate(needed.config_maps)
        ),
    ]


def environment(needed: Storage) -> list[Manifest]:
    """Return the environment that every container of ours gets."""
    mapped = ":".join(f"{name}={CONFIG_MAPS_FOLDER}/{name}" for name, _ in needed.config_maps)
    return [
        variable(contract.ENV_RUN_CONFIG, f"{RUN_FOLDER}/{RUN_FILE}"),
        variable(contract.ENV_WORKSPACE, WORKSPACE),
        variable(contract.ENV_TERMINATION_LOG, TERMINATION_LOG),
        *pods.storage_environment([claim for claim, _ in needed.claims], needed.secrets),
        *([variable(contract.ENV_CONFIG_MAPS, mapped)] if mapped else []),
        variable("TMPDIR", WORKSPACE),
        *(variable(name, f"{WORKSPACE}/{folder}") for name, folder in CACHE_FOLDERS.items()),
    ]
