"""The status of a job in two parts: what each holds, and that they make the whole again."""

import json
from typing import Any, get_args

from finetune_operator.api.fields import StatusModel
from finetune_operator.api.pinned import (
    PARTS,
    FineTunePlan,
    content,
    digest,
    is_pinned,
    join,
    joined,
    lacks_plan,
    reported,
    with_plans,
)
from finetune_operator.api.plan import Plan, PlanSummary
from finetune_operator.api.status import FineTuneJob, FineTuneJobStatus, ReportedJob
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.lifecycle.lifecycle_builders import a_job, a_pool, pinned_status

WHOLE = pinned_status(a_job(queueName="team"), a_pool())
ASKED = {"preflight_generation": 2, "spec_digest": "sha256:" + "b" * 64}
"""Which spec preflight was started for."""
FOUND = {"generation": 2, "spec_digest": "sha256:" + "b" * 64}
"""The same in its findings; those of an older operator lack it."""
META = {"name": "bot", "namespace": "team-a", "uid": "u", "resourceVersion": "1"}


@st.composite
def statuses(draw: st.DrawFn) -> FineTuneJobStatus:
    """Any mix of what is pinned and what is not."""
    pinned = draw(st.sets(st.sampled_from(PARTS)))
    own: dict[str, Any] = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "run_digest": st.just("sha256:" + "a" * 64),
                "attempts_without_progress": st.integers(0, 5),
                "phase": st.sampled_from(["Planned", "Training", "Failed"]),
                "retry_time": st.just("2026-01-31T12:00:00Z"),
                "adapter_uri": st.text(max_size=20),
            },
        )
    )
    own |= draw(st.sampled_from([{}, ASKED]))
    status = FineTuneJobStatus(**own).model_copy(update={part: getattr(WHOLE, part) for part in pinned})
    if status.preflight is None or not status.spec_digest or draw(st.booleans()):
        return status
    return status.model_copy(update={"preflight": status.preflight.model_copy(update=FOUND)})


def raw(status: FineTuneJobStatus) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a job and its FineTunePlan as the API server would keep them."""
    name = "bot-1" if is_pinned(status) else None
    job = {"metadata": META, "spec": a_job().spec.model_dump(by_alias=True), "status": reported(status, name)}
    return json.loads(json.dumps(job)), {"metadata": META | {"name": "bot-1"}, **content(status)}


@given(statuses())
def test_both_parts_make_the_whole_again(status: FineTuneJobStatus):
    """For the controller, which joins models, and for the commands, which join what the API server sends."""
    job, plan = raw(status)
    ours = joined(ReportedJob.model_validate(job), FineTunePlan.model_validate(plan)).status
    theirs = FineTuneJob.model_validate(join(job, plan)).status
    written = {"plan_name", "queue_name", "pod_group"}

    assert ours.model_dump(exclude=written) == theirs.model_dump(exclude=written) == status.model_dump(exclude=written)
    assert ours.plan_name == ("bot-1" if is_pinned(status) else None)


@given(statuses())
def test_what_is_written_again_and_again_holds_a_summary_only(status: FineTuneJobStatus):
    """Neither preflight nor resolved spec; of the plan what its summary has."""
    job, _ = raw(status)
    summary = job["status"].get("plan", {})

    assert not {"preflight", "resolved", "unread"} & job["status"].keys()
    assert set(summary) <= {"summary", "pool", "replicas", "gpusPerReplica", "estimate", "warnings"}
    assert bool(summary) == (status.plan is not None)
    assert ("estimate" in summary) == (status.plan is not None and status.phase != "Failed")


def test_which_spec_was_examined_is_told_by_the_status_until_preflight_has_reported():
    """Then its findings say so; beside those of an older operator, which lack it, the status goes on to."""
    status = WHOLE.model_copy(update=ASKED)
    assert status.preflight is not None
    whole = status.model_copy(update={"preflight": status.preflight.model_copy(update=FOUND)})
    before = FineTuneJobStatus(**ASKED)

    assert [set(reported(each, None)) & {"specDigest", "preflightGeneration"} for each in (before, status, whole)] == [
        {"specDigest", "preflightGeneration"}, {"specDigest", "preflightGeneration"}, set(),
    ]  # fmt: skip


@given(statuses())
def test_without_its_plan_a_job_is_written_as_it_was(status: FineTuneJobStatus):
    """A job that has ended is not joined: a write of its status loses nothing."""
    job, _ = raw(status)
    apart = joined(ReportedJob.model_validate(job), None).status

    assert json.loads(json.dumps(reported(apart, apart.plan_name))) == job["status"]


def test_a_plan_has_all_that_its_summary_has():
    """Lists read either."""
    assert missing(PlanSummary, Plan) == []


def missing(part: type[StatusModel], whole: type[StatusModel], path: str = "") -> list[str]:
    """Return the fields of one model that another lacks, or has of another type."""
    found = []
    for name, field in part.model_fields.items():
        other = whole.model_fields.get(name)
        inner, outer = present(field.annotation), present(other and other.annotation)
        if isinstance(inner, type) and issubclass(inner, StatusModel) and isinstance(outer, type):
            found += missing(inner, outer, f"{path}{name}.")
        elif inner != outer:
            found.append(f"{path}{name}")
    return found


def present(annotation: Any) -> Any:
    """Return the type of a field where it is there."""
    return next((each for each in get_args(annotation) if each is not type(None)), annotation)


def test_a_digest_is_of_the_content_and_of_the_job():
    """A job that is applied again under its name has plans of its own: those of the former one are still being removed."""
    plan = content(WHOLE)

    assert digest("u", plan) == digest("u", json.loads(json.dumps(plan)))
    assert len({digest("u", plan), digest("v", plan), digest("u", plan | {"plan": None})}) == 3


def test_a_status_of_an_earlier_operator_is_whole_by_itself():
    """It names no FineTunePlan."""
    job = raw(WHOLE)[0]
    status = {name: value for name, value in job["status"].items() if name != "planName"} | content(WHOLE)

    assert FineTuneJob.model_validate(job | {"status": status}).status.plan == WHOLE.plan
    assert ReportedJob.model_validate(job | {"status": status}).status.in_short.summary == WHOLE.plan.summary  # type: ignore[union-attr]
    assert not lacks_plan(job | {"status": status})


def test_jobs_are_joined_with_their_own_plans():
    """By namespace and name; one that is not there leaves the job as it is."""
    job, plan = raw(WHOLE)
    elsewhere = plan | {"metadata": plan["metadata"] | {"namespace": "team-b"}}

    assert [lacks_plan(each) for each in with_plans([job], [elsewhere])] == [True]
    assert [lacks_plan(each) for each in with_plans([job], [elsewhere, plan])] == [False]
