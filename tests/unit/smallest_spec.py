"""The least that a FineTuneJob's spec may say. Used by builders of all folders."""

from typing import Any

SMALLEST_SPEC: dict[str, Any] = {
    "model": {"source": "hf://org/model"},
    "datasets": [{"source": "s3://team-a/train.jsonl"}],
    "output": {"destination": "s3://team-a/out"},
}
PINNED_SPEC: dict[str, Any] = {**SMALLEST_SPEC, "model": {"source": "hf://org/model", "revision": "c" * 40}}
"""The same of a model at one commit."""
