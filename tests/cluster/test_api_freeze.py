"""Edits on the real API server: everything before the first attempt, five fields after it."""

import copy
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from finetune_operator.api.crd import job_crd

from tests.cluster.client import FINETUNE, ApiError, Client
from tests.refusals import GOOD_JOB, changed, with_defaults

MUTABLE = {
    "suspend",
    "runPolicy.budget.maxCostUSD",
    "runPolicy.activeDeadlineSeconds",
    "runPolicy.podRetentionSeconds",
    "runPolicy.ttlSecondsAfterFinished",
}
FROZEN = (
    " cannot be changed once the first attempt has started: apply the changed job under a new name with another"
    " output.destination (only suspend, runPolicy.budget, activeDeadlineSeconds, podRetentionSeconds and"
    " ttlSecondsAfterFinished can be changed)"
)
FULL = changed(
    GOOD_JOB,
    {
        "spec.model": {"source": "hf://org/model", "revision": "main", "credentials": {"secretName": "hf"}},
        "spec.datasets": [
            {"source": "hf://org/data", "format": "prompt-completion", "columns": {"prompt": "q", "completion": "a"},
             "maxExamples": 10, "weight": "1.0", "credentials": {"secretName": "hf"}},
        ],
        "spec.lora": {"alpha": 32, "targets": "custom", "targetModules": ["q_proj"], "modulesToSave": ["lm_head"]},
        "spec.training": {
            "epochs": 2, "learningRate": "2e-4", "scheduler": "cosine", "weightDecay": "0.1", "globalBatchSize": 8,
            "sequenceLength": 512, "neftuneAlpha": "5", "earlyStopping": {},
        },
        "spec.evaluation": {"gate": {"minRelativeLossImprovement": "0.1"}, "samples": {"prompts": ["Hi."]}},
        "spec.resources": {"pools": ["h100"], "gpus": 2, "maxGpus": 4},
        "spec.output": {"destination": "s3://bucket/out", "credentials": {"secretName": "s3"}},
        "spec.checkpoint": {"destination": "s3://bucket/steps", "credentials": {"secretName": "s3"}},
        "spec.serviceAccountName": "trainer",
        "spec.priorityClassName": "research",
        "spec.queueName": "train",
        "spec.podMetadata": {"labels": [{"key": "a", "value": "b"}], "annotations": [{"key": "a", "value": "b"}]},
        "spec.runPolicy": {
            "activeDeadlineSeconds": 3600, "budget": {"maxCostUSD": "10.00"}, "ttlSecondsAfterFinished": 9,
        },
    },
)  # fmt: skip
"""A job with almost every field set, so that almost every field can be changed and removed."""
WHOLE = with_defaults(FULL)
"""The same with every default written out, as older definitions stored it."""

EXCLUDED_BY_OTHERS = {
    "initialAdapter",
    "initialAdapterCredentials",
    "messages",
    "text",
    "source.maxExamples",
    "maxSteps",
}
"""Fields that cannot stand beside those of FULL."""

NUMBERS = itertools.count()


@pytest.fixture
def job(api: Client, namespace: str) -> str:
    """The path of a stored job with every field set."""
    collection = f"{FINETUNE}/namespaces/{namespace}/finetunejobs"
    name = f"job-{next(NUMBERS)}"
    api.create(collection, WHOLE | {"metadata": {"name": name, "namespace": namespace}})
    return f"{collection}/{name}"


def pin(api: Client, job: str) -> None:
    """Write what the operator writes before it creates the first Pod."""
    attempt = {"number": 0, "startTime": "2026-11-23T12:00:00Z"}
    api.patch(f"{job}/status", {"status": {"phase": "Training", "attempts": [attempt]}})


def another(field: dict[str, Any], value: Any) -> Any:
    """Return a value that differs from `value` and keeps the field's own rules."""
    if "enum" in field:
        return next(choice for choice in field["enum"] if choice != value)
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case str() if value.replace(".", "").isdigit():
            return {"0.05": "0.06", "0.0": "0.01", "0.1": "0.2"}.get(value, "0.03" if value != "0.03" else "0.04")
        case str() if value == "2e-4":
            return "1e-4"
        case list():
            return [*value, "other"] if isinstance(value[0], str) else value
        case _:
            return f"{value}x"


def leaves(schema: dict[str, Any], value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield (path, another value) of every field that is set below a struct."""
    for name, field in schema["properties"].items():
        if name not in value:
            continue
        below, inner = (*path, name), value[name]
        if "properties" in field:
            yield from leaves(field, inner, below)
        elif "properties" in field.get("items", {}):
            if inner:  # a default may be an empty list
                yield from leaves(field["items"], inner[0], (*below, 0))
        else:
            yield below, another(field, inner)


def edited(spec: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """Return a copy of the spec with one value changed, or removed where it is None."""
    out = copy.deepcopy(spec)
    place = out
    for part in path[:-1]:
        place = place[part]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return out


def answer(api: Client, job: str, spec: dict[str, Any]) -> str:
    """Return what the API server says about a new spec: "accepted", or its message."""
    stored = api.get(job)
    try:
        api.request("PUT", f"{job}?dryRun=All&fieldValidation=Strict", stored | {"spec": spec})
    except ApiError as error:
        return error.message
    return "accepted"


def spec_schema() -> dict[str, Any]:
    return job_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]


def frozen_name(path: tuple[Any, ...]) -> str:
    """The freeze is per field of the spec, and per field of runPolicy."""
    return "runPolicy." + path[1] if path[0] == "runPolicy" else path[0]


def test_every_field_is_frozen_by_the_first_attempt_but_five(api: Client, job: str):
    """Each set field changed by itself: refused under its name, or one of the five."""
    stored = api.get(job)["spec"]
    edits = list(leaves(spec_schema(), stored))
    before = [answer(api, job, edited(stored, path, value)) for path, value in edits]
    pin(api, job)
    after = {path: answer(api, job, edited(stored, path, value)) for path, value in edits}

    assert len(edits) > 60
    assert before.count("accepted") > 55
    assert {".".join(map(str, path)) for path, said in after.items() if said == "accepted"} == MUTABLE
    assert [
        (path, said)
        for path, said in after.items()
        if said != "accepted" and f"spec: Forbidden: spec.{frozen_name(path)}{FROZEN}" not in said
    ] == []


@pytest.fixture
def small(api: Client, namespace: str) -> str:
    """The path of a stored job with nothing set that has a default."""
    collection = f"{FINETUNE}/namespaces/{namespace}/finetunejobs"
    name = f"small-{next(NUMBERS)}"
    api.create(collection, changed(GOOD_JOB, {"metadata": {"name": name, "namespace": namespace}}))
    return f"{collection}/{name}"


def test_every_field_with_a_default_is_frozen_where_it_is_absent(api: Client, small: str):
    """Setting it to anything but its default is a change, also where the struct around it is absent."""
    stored = with_defaults(GOOD_JOB)["spec"]
    required = ("model", "datasets", "output")
    edits = [(path, value) for path, value in leaves(spec_schema(), stored) if path[0] not in required]
    written = api.get(small)["spec"]
    specs = {path: grafted(written, path, value) for path, value in edits}
    before = {path for path, spec in specs.items() if answer(api, small, spec) == "accepted"}
    pin(api, small)
    after = {path: answer(api, small, spec) for path, spec in specs.items()}

    assert len(edits) > 25
    assert before == set(specs)
    assert {".".join(path) for path, said in after.items() if said == "accepted"} == {
        "suspend", "runPolicy.podRetentionSeconds",
    }  # fmt: skip
    assert [
        path
        for path in before
        if after[path] != "accepted" and f"spec: Forbidden: spec.{frozen_name(path)}{FROZEN}" not in after[path]
    ] == []


def test_writing_a_default_out_is_no_change(api: Client, small: str):
    """All of them at once."""
    pin(api, small)

    assert answer(api, small, with_defaults(GOOD_JOB)["spec"]) == "accepted"


def test_leaving_a_default_out_is_no_change(api: Client, job: str):
    """Of a job that an older definition stored with its defaults, `kubectl replace` with the file of the user."""
    pin(api, job)

    assert api.get(job)["spec"] == WHOLE["spec"]
    assert answer(api, job, FULL["spec"]) == "accepted"


def grafted(spec: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """Return a copy of the spec with one field more, and the structs around it."""
    below = grafted(spec.get(path[0], {}), path[1:], value) if len(path) > 1 else value
    return spec | {path[0]: below}


@pytest.mark.parametrize("name", ["serviceAccountName", "priorityClassName"])
def test_removing_a_field_is_a_change(api: Client, job: str, name: str):
    """The whole message."""
    stored = api.get(job)["spec"]
    pin(api, job)

    assert (
        f'FineTuneJob.finetune.dev "{job.rsplit("/", 1)[1]}" is invalid: spec: Forbidden: spec.{name}{FROZEN}'
    ) == answer(api, job, edited(stored, (name,), None))


def test_adding_a_field_is_a_change(api: Client, namespace: str):
    """A field that was absent when the job started stays absent."""
    collection = f"{FINETUNE}/namespaces/{namespace}/finetunejobs"
    api.create(collection, changed(GOOD_JOB, {"metadata": {"name": "small", "namespace": namespace}}))
    pin(api, f"{collection}/small")
    stored = api.get(f"{collection}/small")["spec"]

    assert (
        f'FineTuneJob.finetune.dev "small" is invalid: spec: Forbidden: spec.serviceAccountName{FROZEN}'
        == answer(api, f"{collection}/small", stored | {"serviceAccountName": "x"})
    )  # fmt: skip


def test_the_budget_can_be_added_and_removed_while_running(api: Client, job: str):
    """Mutable means all of it."""
    stored = api.get(job)["spec"]
    pin(api, job)

    assert answer(api, job, edited(stored, ("runPolicy", "budget"), None)) == "accepted"
    assert answer(api, job, edited(stored, ("runPolicy", "ttlSecondsAfterFinished"), None)) == "accepted"
    assert answer(api, job, edited(stored, ("suspend",), True)) == "accepted"


def test_status_can_be_written_after_the_freeze(api: Client, job: str):
    """The root rules look at every write, the operator's too."""
    pin(api, job)
    api.patch(f"{job}/status", {"status": {"phase": "Succeeded"}})

    assert api.get(job)["status"]["phase"] == "Succeeded"


def test_an_unknown_phase_is_refused(api: Client, job: str):
    """The operator cannot invent one."""
    with pytest.raises(ApiError) as caught:
        api.patch(f"{job}/status", {"status": {"phase": "Running"}})

    assert (
        f'FineTuneJob.finetune.dev "{job.rsplit("/", 1)[1]}" is invalid: [status.phase: Unsupported value: "Running":'
        ' supported values: "Pending", "Preflight", "Planned", "Queued", "Training", "Publishing", "Suspended", "Succeeded",'
        ' "Failed", <nil>: Invalid value: null: some validation rules were not checked because the object was invalid;'
        " correct the existing errors to complete validation]"
    ) == caught.value.message


def test_status_is_written_through_its_subresource_only(api: Client, job: str):
    """A user's status is dropped, and a status write does not raise the generation."""
    api.patch(job, {"status": {"phase": "Failed"}})
    pin(api, job)
    stored = api.get(job)

    assert (stored["status"]["phase"], stored["metadata"]["generation"]) == ("Training", 1)
