"""The config.json of a model that lies on this machine: in a folder, or in the Hugging Face cache. Called by plan."""

import os
from pathlib import Path


def local_config(name: str) -> Path | None:
    """Return the config.json of a model's folder, or of its newest revision in the cache; None where there is neither."""
    folder = Path(name.removeprefix("file://")).expanduser() / "config.json"
    if not name.startswith(("hf://", "pvc://", "s3://", "gs://", "az://", "oci://")) and folder.is_file():
        return folder
    kept = hub_cache() / f"models--{name.removeprefix('hf://').replace('/', '--')}" / "snapshots"
    found = sorted(kept.glob("*/config.json"), key=lambda file: file.stat().st_mtime)
    return found[-1] if found else None


def hub_cache() -> Path:
    """Return where huggingface_hub keeps models (its environment variables HF_HUB_CACHE and HF_HOME)."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()
