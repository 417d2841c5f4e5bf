"""Jobs as the API server has them, read by this version: one that it cannot read is named, and hides no other. Called by the commands."""

import sys
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, TypeVar

from pydantic import ValidationError

from finetune_operator.api.group import API_VERSION, JOB_KIND
from finetune_operator.api.status import FineTuneJob, ReportedJob
from finetune_operator.errors import FinetuneError

T = TypeVar("T", bound=ReportedJob)


def stored_job(raw: Mapping[str, Any]) -> ReportedJob:
    """Return a job without what is in its FineTunePlan. Raises FinetuneError as whole_job does."""
    return _read(ReportedJob, raw)


def whole_job(raw: Mapping[str, Any]) -> FineTuneJob:
    """Return a job with its plan. Raises FinetuneError with its name and the field that this version does not know."""
    return _read(FineTuneJob, raw)


def _read(kind: type[T], raw: Mapping[str, Any]) -> T:
    try:
        return kind.model_validate({"apiVersion": API_VERSION, "kind": JOB_KIND, **raw})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        metadata, field = raw.get("metadata", {}), ".".join(map(str, first["loc"]))
        raise FinetuneError(
            f"FineTuneJob {metadata.get('namespace', '')}/{metadata.get('name', '')} cannot be read by this version of finetune: "
            f"{field}: {first['msg'][:1].lower()}{first['msg'][1:]}. Install the version that the operator has; "
            "`finetune get NAME -o yaml` prints the job as it is"
        ) from error


def readable(stored: Iterable[Mapping[str, Any]]) -> list[ReportedJob]:
    """Return the jobs that this version reads, and say on stderr which it does not, each once."""
    jobs, left_out = sorted_out(stored)
    for refusal in left_out:
        _say(f"finetune: left out: {refusal}")
    return jobs


def sorted_out(stored: Iterable[Mapping[str, Any]]) -> tuple[list[ReportedJob], list[str]]:
    """Return the jobs that this version reads, and what is wrong with each that it does not."""
    jobs, left_out = [], []
    for raw in stored:
        try:
            jobs.append(stored_job(raw))
        except FinetuneError as error:
            left_out.append(str(error))
    return jobs, left_out


@cache  # a watch reads the same jobs every second
def _say(text: str) -> None:
    print(text, file=sys.stderr)
