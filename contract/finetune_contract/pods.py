"""Parts of Pods that read a result, in training and in serving alike: claims, Secrets, security. Part of contract."""

from collections.abc import Iterable, Sequence
from typing import Any

from finetune_contract.data import Location
from finetune_contract.names import ENV_CLAIMS, ENV_SECRETS, SECRET_KEYS

Manifest = dict[str, Any]
"""One object, or a part of it, as a plain dict."""

CLAIMS_FOLDER, SECRETS_FOLDER = "/mnt/claims", "/mnt/secrets"

SECRET_MODE = 0o440
"""Readable by the Pod's fsGroup and nobody else."""

USER = 65532
"""The images' unprivileged user; also the group of its volumes."""


def claim_of(uri: str) -> str:
    """Return the PersistentVolumeClaim of a pvc:// location, empty for any other."""
    return uri.removeprefix("pvc://").split("/", maxsplit=1)[0] if uri.startswith("pvc://") else ""


def claims_of(places: Iterable[Location]) -> tuple[str, ...]:
    """Return the claims of some places, each once."""
    return tuple(sorted({claim_of(place.uri) for place in places} - {""}))


def secrets_of(places: Iterable[Location]) -> tuple[str, ...]:
    """Return the Secrets of some places, each once."""
    return tuple(sorted({place.secret for place in places} - {""}))


def storage_volumes(claims: Sequence[str], secrets: Sequence[str]) -> list[Manifest]:
    """Return the volumes of claims and Secrets."""
    return [
        *(
            {"name": f"claim-{number}", "persistentVolumeClaim": {"claimName": claim}}
            for number, claim in enumerate(claims)
        ),
        *(secret_volume(number, secret) for number, secret in enumerate(secrets)),
    ]


def secret_volume(number: int, secret: str) -> Manifest:
    """Return a volume with the documented keys of a Secret: each may be missing, and no other is ever mounted."""
    keys = [{"key": key, "path": key} for key in SECRET_KEYS]
    source = {"secretName": secret, "items": keys, "optional": True, "defaultMode": SECRET_MODE}
    return {"name": f"secret-{number}", "secret": source}


def storage_mounts(claims: Sequence[tuple[str, bool]], secrets: Sequence[str]) -> list[Manifest]:
    """Return where a container sees them. Claims come with whether they are only read."""
    return [
        *(
            {"name": f"claim-{number}", "mountPath": f"{CLAIMS_FOLDER}/{claim}", "readOnly": read_only}
            for number, (claim, read_only) in enumerate(claims)
        ),
        *(
            {"name": f"secret-{number}", "mountPath": f"{SECRETS_FOLDER}/{secret}", "readOnly": True}
            for number, secret in enumerate(secrets)
        ),
    ]


def storage_environment(claims: Sequence[str], secrets: Sequence[str]) -> list[Manifest]:
    """Return the environment that says where they are."""
    return [
        variable(ENV_CLAIMS, ":".join(f"{claim}={CLAIMS_FOLDER}/{claim}" for claim in claims)),
        variable(ENV_SECRETS, ":".join(f"{secret}={SECRETS_FOLDER}/{secret}" for secret in secrets)),
    ]


def variable(name: str, value: str) -> Manifest:
    """Return one environment variable."""
    return {"name": name, "value": value}


def container_security() -> Manifest:
    """Return the security context of a container of ours."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
