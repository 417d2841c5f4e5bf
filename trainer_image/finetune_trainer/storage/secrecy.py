"""The last door before text leaves the Pod: secrets that slipped into the message of a library are blotted out."""

import os
from pathlib import Path

from finetune_contract import ENV_SECRETS, SECRET_KEYS

CONFIDENTIAL = (
    "HF_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "OPENAI_API_KEY",
    "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN",
)  # fmt: skip
"""Of SECRET_KEYS, those whose values are secret; endpoints and regions help in messages."""

SHORTEST_SECRET = 6
"""Anything shorter would blot out ordinary words."""


def redacted(text: str) -> str:
    """Return the text with every secret value that this Pod knows replaced by its key's name."""
    for key, value in secret_values():
        text = text.replace(value, f"<{key}>")
    return text


def secret_values() -> list[tuple[str, str]]:
    """Return (key, value) of all secrets in mounted Secrets and in the environment, longest value first."""
    assert set(CONFIDENTIAL) < set(SECRET_KEYS)
    folders = [pair.partition("=")[2] for pair in os.environ.get(ENV_SECRETS, "").split(":") if "=" in pair]
    files = [(key, Path(folder) / key) for folder in folders for key in CONFIDENTIAL]
    found = [(key, file.read_text().strip()) for key, file in files if file.is_file()]
    found += [(key, os.environ[key]) for key in CONFIDENTIAL if key in os.environ]
    return sorted(((k, v) for k, v in found if len(v) >= SHORTEST_SECRET), key=lambda pair: -len(pair[1]))
