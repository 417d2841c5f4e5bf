"""Inputs for the tests of manifests: jobs with a pinned plan."""

from typing import Any

from finetune_operator.api.status import AttemptStatus, FineTuneJob

from tests.unit.lifecycle.lifecycle_builders import a_job, a_pool, pinned_status

RICH: dict[str, Any] = {
    "model": {"source": "hf://org/model", "revision": "c" * 40, "credentials": {"secretName": "hf-token"}},
    "datasets": [{"source": "pvc://data/chats/train-*.jsonl", "maxExamples": 1000}],
    "evaluation": {"fraction": "0.1", "samples": {"prompts": ["Hello?"]}},
    "lora": {"initialAdapter": "s3://team-a/adapters/v1", "initialAdapterCredentials": {"secretName": "s3-read"}},
    "output": {"destination": "s3://team-a/out", "credentials": {"secretName": "s3-write"}},
    "checkpoint": {"destination": "pvc://ckpt/bot"},
    "serviceAccountName": "trainer",
    "priorityClassName": "research",
}
"""A spec that uses everything a Pod can show."""


def a_pinned_job(
    *, replicas: int = 1, attempts: int = 1, plan: dict[str, Any] | None = None, **spec: Any
) -> FineTuneJob:
    """Return a job whose plan and attempts are pinned."""
    job = a_job(**{"resources": {"gpus": replicas}, **spec})
    status = pinned_status(job, a_pool(), **(plan or {}))
    entries = [AttemptStatus(number=number, start_time="2026-01-31T12:00:00Z") for number in range(attempts)]
    return job.model_copy(update={"status": status.model_copy(update={"attempts": entries})})
