"""Volumes of the Pods, and the environment that says where they are mounted. Called by pod and preflight.

Claims and Secrets are told apart by name in the mount path, not in the volume's name: those may be 253 characters long.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields, is_dataclass

import finetune_contract as contract

from finetune_operator.manifests import names
from finetune_operator.manifests.labels import Manifest

RUN_FOLDER, RUN_FILE = "/etc/finetune", "run.json"
WORKSPACE = "/workspace"
TERMINATION_LOG = "/dev/termination-log"
CLAIMS_FOLDER, SECRETS_FOLDER, CONFIG_MAPS_FOLDER = "/mnt/claims", "/mnt/secrets", "/mnt/config-maps"
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

SECRET_MODE = 0o440
"""Readable by the Pod's fsGroup and nobody else."""


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
        claims=tuple(
            (claim, claim not in written) for claim in sorted({claim_of(place.uri) for place in places} - {""})
        ),
        secrets=tuple(sorted({place.secret for place in places} - {""})),
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
        for field in fields(value):
            yield from locations(getattr(value, field.name))


def claim_of(uri: str) -> str:
    """Return the PersistentVolumeClaim of a pvc:// location, empty for any other."""
    return uri.removeprefix("pvc://").split("/", maxsplit=1)[0] if uri.startswith("pvc://") else ""


def volumes(needed: Storage, *, workspace_gib: int) -> list[Manifest]:
    """Return the Pod's volumes: run.json, the workspace, claims, Secrets and ConfigMaps."""
    path = f"metadata.annotations['{names.RUN_ANNOTATION}']"
    return [
        {"name": "run", "downwardAPI": {"items": [{"path": RUN_FILE, "fieldRef": {"fieldPath": path}}]}},
        {"name": "workspace", "emptyDir": {"sizeLimit": f"{workspace_gib}Gi"}},
        *(
            {"name": f"claim-{number}", "persistentVolumeClaim": {"claimName": claim}}
            for number, (claim, _) in enumerate(needed.claims)
        ),
        *(secret_volume(number, secret) for number, secret in enumerate(needed.secrets)),
        *(config_map_volume(number, *named) for number, named in enumerate(needed.config_maps)),
    ]


def config_map_volume(number: int, name: str, keys: tuple[str, ...]) -> Manifest:
    """Return a volume with some keys of a ConfigMap. It may arrive later, as Secrets may: preflight says what is missing."""
    items = [{"key": key, "path": key} for key in keys]
    return {"name": f"config-map-{number}", "configMap": {"name": name, "items": items, "optional": True}}


def secret_volume(number: int, secret: str) -> Manifest:
    """Return a volume with the documented keys of a Secret: each may be missing, and no other is ever mounted."""
    keys = [{"key": key, "path": key} for key in contract.SECRET_KEYS]
    source = {"secretName": secret, "items": keys, "optional": True, "defaultMode": SECRET_MODE}
    return {"name": f"secret-{number}", "secret": source}


def mounts(needed: Storage) -> list[Manifest]:
    """Return where the container sees the volumes."""
    return [
        {"name": "run", "mountPath": RUN_FOLDER, "readOnly": True},
        {"name": "workspace", "mountPath": WORKSPACE},
        *(
            {"name": f"claim-{number}", "mountPath": f"{CLAIMS_FOLDER}/{claim}", "readOnly": read_only}
            for number, (claim, read_only) in enumerate(needed.claims)
        ),
        *(
            {"name": f"secret-{number}", "mountPath": f"{SECRETS_FOLDER}/{secret}", "readOnly": True}
            for number, secret in enumerate(needed.secrets)
        ),
        *(
            {"name": f"config-map-{number}", "mountPath": f"{CONFIG_MAPS_FOLDER}/{name}", "readOnly": True}
            for number, (name, _) in enumerate(needed.config_maps)
        ),
    ]


def environment(needed: Storage) -> list[Manifest]:
    """Return the environment that every container of ours gets."""
    claims = ":".join(f"{claim}={CLAIMS_FOLDER}/{claim}" for claim, _ in needed.claims)
    secrets = ":".join(f"{secret}={SECRETS_FOLDER}/{secret}" for secret in needed.secrets)
    mapped = ":".join(f"{name}={CONFIG_MAPS_FOLDER}/{name}" for name, _ in needed.config_maps)
    return [
        variable(contract.ENV_RUN_CONFIG, f"{RUN_FOLDER}/{RUN_FILE}"),
        variable(contract.ENV_WORKSPACE, WORKSPACE),
        variable(contract.ENV_TERMINATION_LOG, TERMINATION_LOG),
        variable(contract.ENV_CLAIMS, claims),
        variable(contract.ENV_SECRETS, secrets),
        *([variable(contract.ENV_CONFIG_MAPS, mapped)] if mapped else []),
        variable("TMPDIR", WORKSPACE),
        *(variable(name, f"{WORKSPACE}/{folder}") for name, folder in CACHE_FOLDERS.items()),
    ]


def variable(name: str, value: str) -> Manifest:
    """Return one environment variable."""
    return {"name": name, "value": value}
