"""The last door before text leaves the Pod: secrets that slipped into the message of a library are blotted out."""

import base64
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, quote_plus

from finetune_contract import ENV_SECRETS, SECRET_KEYS

CONFIDENTIAL = (
    "HF_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "OPENAI_API_KEY",
    "GOOGLE_CREDENTIALS", "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_TOKEN", ".dockerconfigjson", "OCI_PASSWORD",
    "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "TRACKIO_WRITE_TOKEN", "WANDB_API_KEY",
)  # fmt: skip
"""Of SECRET_KEYS, those whose values are secret; endpoints and regions help in messages."""

DOCKER_CONFIG = ".dockerconfigjson"

SHORTEST_SECRET = 6
"""Anything shorter would blot out ordinary words."""


def redacted(text: str) -> str:
    """Return the text with every secret value that this Pod knows replaced by its key's name. Cut a text after this, never before."""
    for key, value in secret_values():
        for spelling in spellings(value):
            text = text.replace(spelling, f"<{key}>")
    return text


def spellings(value: str) -> Iterator[str]:
    """Yield a value as messages of libraries and servers hold it: as it is, in a URL, in JSON."""
    yield value
    yield from {quote(value, safe=""), quote_plus(value), quote(value), json.dumps(value)[1:-1]} - {value}


def secret_values() -> list[tuple[str, str]]:
    """Return (key, value) of all secrets in mounted Secrets and in the environment, longest value first."""
    assert set(CONFIDENTIAL) < set(SECRET_KEYS)
    folders = [pair.partition("=")[2] for pair in os.environ.get(ENV_SECRETS, "").split(":") if "=" in pair]
    files = [(key, Path(folder) / key) for folder in folders for key in CONFIDENTIAL]
    found = [(key, file.read_text().strip()) for key, file in files if file.is_file()]
    found += [(key, os.environ[key]) for key in CONFIDENTIAL if key in os.environ]
    found += [hidden for folder in folders for hidden in (*_logins(Path(folder)), *_docker_logins(Path(folder)))]
    return sorted(((k, v) for k, v in found if len(v) >= SHORTEST_SECRET), key=lambda pair: -len(pair[1]))


def _logins(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield user and password as the header of HTTP's basic authentication holds them."""
    for name in ("MLFLOW_TRACKING", "OCI"):
        user, password = (folder / f"{name}_{part}" for part in ("USERNAME", "PASSWORD"))
        if user.is_file() and password.is_file():
            pair = f"{user.read_text().strip()}:{password.read_text().strip()}"
            yield f"{name}_PASSWORD", base64.b64encode(pair.encode()).decode()


def _docker_logins(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield what a Docker configuration keeps secret, one by one: a message holds a part of it, never the whole."""
    file = folder / DOCKER_CONFIG
    if not file.is_file():
        return
    try:
        entries = [entry for entry in json.loads(file.read_text())["auths"].values() if isinstance(entry, dict)]
    except (ValueError, KeyError, TypeError, AttributeError):
        return  # nobody can use it, so nobody repeats a part of it
    for entry in entries:
        yield from ((DOCKER_CONFIG, str(entry[key])) for key in ("auth", "password", "identitytoken") if entry.get(key))
        with suppress(ValueError):
            yield DOCKER_CONFIG, base64.b64decode(str(entry.get("auth", ""))).decode().partition(":")[2]
        if entry.get("username") and entry.get("password"):
            yield DOCKER_CONFIG, base64.b64encode(f"{entry['username']}:{entry['password']}".encode()).decode()
