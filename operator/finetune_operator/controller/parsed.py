"""What is kept as text, parsed: Pods, pools and policies once for the several passes that look at them. Jobs are kept by plans."""

import functools
from collections.abc import Iterable

import orjson

from finetune_operator.api.pinned import FineTunePlan, joined
from finetune_operator.api.policies import FineTunePolicy
from finetune_operator.api.pools import GPUPool
from finetune_operator.api.status import FineTuneJob, ReportedJob
from finetune_operator.controller.seen import seen_pod
from finetune_operator.lifecycle.observation import SeenPod

BUSY_JOBS = 1024
"""Jobs in progress, and twice as many Pods, that passes look at again and again; about 40 MB."""


def parsed_pods(texts: Iterable[str]) -> tuple[SeenPod, ...]:
    """Return the job's Pods among some, as `seen.seen_pods` does."""
    return tuple(pod for pod in map(parsed_pod, texts) if pod is not None)


@functools.lru_cache(maxsize=2 * BUSY_JOBS)
def parsed_pod(text: str) -> SeenPod | None:
    """Return what a decision needs to know about one of our Pods; None for a Pod that is none of them."""
    return seen_pod(orjson.loads(text))


def parsed_job(text: str) -> FineTuneJob:
    """Return a job. Raises ValidationError where its spec is not one we can read."""
    return FineTuneJob.model_validate_json(text)


def reported_job(text: str) -> ReportedJob:
    """Return a job without what is pinned in its FineTunePlan. Raises ValidationError where its spec is not one we can read."""
    return ReportedJob.model_validate_json(text)


def parsed_plan(text: str) -> FineTunePlan:
    """Return a FineTunePlan. Raises ValidationError where it is not one we can read."""
    return FineTunePlan.model_validate_json(text)


def joined_job(job: ReportedJob, plan: str) -> FineTuneJob:
    """Return a job with what is pinned in its FineTunePlan, or without it where there is no text."""
    return joined(job, parsed_plan(plan) if plan else None)


@functools.lru_cache(maxsize=BUSY_JOBS)
def parsed_pool(text: str) -> GPUPool:
    """Return a pool. Raises ValidationError where its spec is not one we can read."""
    return GPUPool.model_validate_json(text)


@functools.lru_cache(maxsize=BUSY_JOBS)
def parsed_policy(text: str) -> FineTunePolicy:
    """Return a policy. Raises ValidationError where its spec is not one we can read."""
    return FineTunePolicy.model_validate_json(text)
