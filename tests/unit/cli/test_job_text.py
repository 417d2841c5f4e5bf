"""What get, wait and logs print about a job, and the exit code of wait."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer
from finetune_operator.api.spec import FineTuneJobSpec
from finetune_operator.api.status import FineTuneJob
from finetune_operator.cli.deleting import stays
from finetune_operator.cli.ending import WaitExit
from finetune_operator.cli.get import command as get
from finetune_operator.cli.get_text import details, listing
from finetune_operator.cli.job_text import duration_text, ended, line, reason_line
from finetune_operator.cli.jobs import JobNotFound, Jobs
from finetune_operator.cli.log_reading import Wanted, attempt_of, chosen, nothing_to_show, shown
from finetune_operator.cli.logs import command as logs
from finetune_operator.cli.target import Target
from finetune_operator.cli.wait import command
from finetune_operator.controller.api import Api
from finetune_operator.errors import FinetuneError
from finetune_operator.lifecycle.observation import SeenPod

from tests.unit.smallest_spec import SMALLEST_SPEC

BORN, NOW = "2026-11-23T10:00:00Z", datetime(2026, 11, 23, 11, 5, tzinfo=UTC)


def a_job(phase: str = "Training", *, generation: int = 1, **status: Any) -> FineTuneJob:
    """Return a job as the API server has it."""
    return FineTuneJob.model_validate(
        {
            "metadata": {
                "name": "tiny", "namespace": "team-a", "uid": "u", "generation": generation, "creationTimestamp": BORN,
            },
            "spec": SMALLEST_SPEC,
            "status": {"phase": phase, **status},
        }
    )  # fmt: skip


def succeeded(status: str, reason: str = "", message: str = "") -> list[dict[str, Any]]:
    """Return conditions in which only Succeeded is set, for generation 1."""
    return [
        {
            "type": "Succeeded", "status": status, "reason": reason, "message": message, "lastTransitionTime": BORN,
            "observedGeneration": 1,
        }
    ]  # fmt: skip


PROGRESS = {
    "step": 40,
    "totalSteps": 160,
    "percent": 25,
    "lastReportTime": BORN,
    "loss": "1.25",
    "secondsRemaining": 95,
}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0s"), (45, "45s"), (750, "12m30s"), (11100, "3h05m"), (187200, "2d4h")],
)
def test_a_duration_has_two_units(seconds: float, text: str):
    """The two largest units say enough."""
    assert duration_text(seconds) == text


def test_a_job_has_ended_when_the_condition_speaks_of_this_generation():
    """A condition of the spec before the last edit says nothing about the job of now."""
    assert ended(a_job()) is None
    assert ended(a_job(conditions=succeeded("Unknown"))) is None
    assert ended(a_job(conditions=succeeded("True", "Published"))) is True
    assert ended(a_job(conditions=succeeded("False", "OutOfMemory"))) is False
    assert ended(a_job(generation=2, conditions=succeeded("True", "Published"))) is None


def test_the_reason_of_a_failure_is_in_the_line():
    """What wait and watch print last."""
    job = a_job("Failed", conditions=succeeded("False", "DataInvalid", "row 7 is not JSON: mend it"))

    assert reason_line(job) == "Failed: DataInvalid: row 7 is not JSON: mend it"
    assert line(job) == "Failed  DataInvalid: row 7 is not JSON: mend it"


def test_a_reason_that_is_the_phase_stands_once():
    """Publishing: attempt 1 is running."""
    job = a_job("Publishing", conditions=succeeded("Unknown", "Publishing", "attempt 1 is running"))

    assert reason_line(job) == "Publishing: attempt 1 is running"


def test_a_job_in_training_shows_how_far_it_is():
    """One plain line, and one row of the table."""
    job = a_job(progress=PROGRESS)

    assert line(job) == "Training  25% (40/160)  loss 1.25  1m35s left"
    assert listing([job], NOW, width=0, namespaces=False) == [
        "NAME   PHASE      REASON   MODEL       PLAN   PROGRESS       LOSS   COST   AGE",
        "tiny   Training            org/model          25% (40/160)   1.25          1h05m",
    ]


def test_a_job_on_gpus_shows_how_well_it_uses_them():
    """Tokens per second, model FLOP utilisation and padding, in the line and in the details. 0 % padding is left out."""
    fast = PROGRESS | {"tokensPerSecond": "51234", "modelFlopUtilisation": "0.414", "paddingShare": "0.071"}
    packed = a_job(progress=fast | {"paddingShare": "0.004"})

    assert (
        line(a_job(progress=fast))
        == "Training  25% (40/160)  loss 1.25  51,234 tokens/s, 41 % MFU, 7 % padding  1m35s left"
    )
    assert "Speed       51,234 tokens/s, 41 % MFU" in details(packed, NOW).splitlines()


def test_a_job_on_a_cpu_has_no_utilisation():
    """Nobody knows the peak of a CPU."""
    job = a_job(progress=PROGRESS | {"tokensPerSecond": "90", "paddingShare": "0.25"})

    assert line(job) == "Training  25% (40/160)  loss 1.25  90 tokens/s, 25 % padding  1m35s left"


def test_details_leave_out_what_is_not_known():
    """A job nobody has looked at has a name, a phase, a model and an age."""
    assert details(a_job("Pending"), NOW).splitlines() == [
        "Name        tiny",
        "Phase       Pending",
        "Model       hf://org/model",
        "Age         1h05m",
    ]


def test_details_compare_the_memory_with_the_plan():
    """Whoever was promised 20 GiB wants to know what it was."""
    job = a_job(memory={"predictedGiB": "20.00", "measuredGiB": "21.00", "reservedGiB": "23.50", "loadingGiB": "19.00"})

    assert (
        "Memory      20.00 GiB per GPU planned, 21.00 GiB measured (105 % of the plan), 23.50 GiB reserved, "
        "19.00 GiB while loading" in details(job, NOW)
    )


def a_pod(name: str, role: str, **numbers: int) -> SeenPod:
    """Return a Pod with only what logs looks at."""
    return SeenPod(name=name, uid=name, role=role, owner_uid="u", created_at=NOW, **numbers)


def test_logs_are_of_the_newest_attempt():
    """Without options replica 0 of the newest attempt; the newest preflight Pod on request."""
    pods = (
        a_pod("p-1", "preflight", generation=1), a_pod("p-2", "preflight", generation=2),
        a_pod("t-0-0", "trainer", attempt=0, replica=0), a_pod("t-1-0", "trainer", attempt=1, replica=0),
        a_pod("t-1-1", "trainer", attempt=1, replica=1),
    )  # fmt: skip
    picked = [
        chosen(pods, Wanted(preflight=True)),
        chosen(pods, Wanted()),
        chosen(pods, Wanted(replica=1)),
        chosen(pods, Wanted(replica=2)),
        chosen(pods, Wanted(attempt=0)),
    ]

    assert [pod and pod.name for pod in picked] == ["p-2", "t-1-0", "t-1-1", None, "t-0-0"]


@pytest.mark.parametrize(
    ("phase", "status", "pods", "asked", "said"),
    [
        ("Failed", {}, ["preflight"], {"replica": 0},
         "tiny (phase Failed) has not started a trainer: see `finetune logs tiny --preflight`"),
        ("Failed", {}, [], {"replica": 0}, "tiny (phase Failed) has not started a trainer"),
        ("Failed", {}, [], {"preflight": True}, "tiny (phase Failed) has no preflight Pod, and preflight has left no log"),
        ("Training", {"attempts": [{"number": 0, "startTime": BORN}]}, ["preflight"], {"replica": 2},
         "tiny (phase Training) has 1 replica, counted from 0, and no replica 2"),
        ("Failed", {"attempts": [{"number": 0, "startTime": BORN}]}, [], {"replica": 0},
         "tiny (phase Failed) has no Pod of replica 0, and it has left no log beside the checkpoints"),
    ],
)  # fmt: skip
def test_logs_say_why_there_are_none(
    phase: str, status: dict[str, Any], pods: list[str], asked: dict[str, Any], said: str
):
    """The command that is named is one that works: the preflight log is pointed to only where its Pod is there."""
    found = tuple(a_pod(f"p-{role}", role) for role in pods)

    assert nothing_to_show(a_job(phase, **status), found, Wanted(**asked)) == said


def test_attempts_are_counted_from_one():
    """As in the sentences of the status; an attempt that was never made is refused with how many there were."""
    job = a_job(attempts=[{"number": number, "startTime": BORN} for number in (0, 1, 2)])
    found = [attempt_of(job, previous=False, attempt=0), attempt_of(job, previous=False, attempt=1)]

    assert (found, attempt_of(job, previous=True, attempt=0)) == ([None, 0], 1)
    with pytest.raises(JobNotFound, match=r"^tiny has had 3 attempts: there is no attempt 4$"):
        attempt_of(job, previous=False, attempt=4)
    with pytest.raises(JobNotFound, match=r"^tiny has had 1 attempt: there is no earlier one$"):
        attempt_of(a_job(attempts=[{"number": 0, "startTime": BORN}]), previous=True, attempt=0)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"previous": True, "attempt": 2}, "--previous and --attempt both name an attempt: give one of them"),
        ({"preflight": True, "previous": True}, "--preflight has no attempts: leave --previous and --attempt out"),
        (
            {"follow": True, "attempt": 1},
            "--follow always prints the newest attempt: leave --previous and --attempt out",
        ),
    ],
)
def test_no_option_of_logs_is_ignored(given: dict[str, Any], said: str):
    """Refused before the cluster is asked."""
    with pytest.raises(FinetuneError) as refused:
        logs("tiny", **given)
    assert str(refused.value) == said


def test_an_ordinary_log_line_is_shown():
    """Only lines that are progress reports are left out."""
    assert shown("loading\n{}\ndone\n", progress=False) == "loading\n{}\ndone"


def test_wait_does_not_call_a_missing_kubeconfig_a_failed_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Exit code 1 is for a job that failed; a cluster that cannot be asked is 4."""
    missing = tmp_path / "none"
    with pytest.raises(typer.Exit) as caught:
        command("tiny", kubeconfig=str(missing))

    assert caught.value.exit_code == WaitExit.UNREACHABLE
    assert capsys.readouterr().err == (f"tiny: kubeconfig {missing} not found: set --kubeconfig or $KUBECONFIG\n")


def test_a_message_stands_once_among_the_conditions():
    """Three conditions of a failed job have the same message; a reader at night wants it once."""
    stalled = succeeded("False", "DatasetInvalid", "row 7 is not JSON")
    conditions = [*stalled, {**stalled[0], "type": "Stalled", "status": "True"}]

    assert details(a_job("Failed", conditions=conditions), NOW).splitlines()[-2:] == [
        "  Succeeded    False    DatasetInvalid       row 7 is not JSON",
        "  Stalled      True     DatasetInvalid",
    ]


def test_an_attempt_without_its_gpus_is_waiting():
    """`running` of Pods that a quota refuses, or that no node takes, would send somebody to the wrong logs."""
    attempts = [
        {"number": 0, "startTime": BORN, "outcome": "NodeLost", "runningTime": BORN},
        {"number": 1, "startTime": BORN},
    ]
    shown = details(a_job(attempts=attempts), NOW)
    running = details(a_job(attempts=[attempts[1] | {"runningTime": BORN}]), NOW)

    assert [line.split()[:2] for line in shown.splitlines()[-2:]] == [["1", "NodeLost"], ["2", "waiting"]]
    assert running.splitlines()[-1].split()[:2] == ["2", "running"]


@pytest.mark.parametrize(
    ("base", "said"),
    [
        ({}, "loss 1.2 on 10 held-out rows; the base model was not measured"),
        (
            {"baseLoss": "2.5", "relativeImprovement": "0.52"},
            "52 % better on 10 held-out rows: loss 2.5 before, 1.2 after",
        ),
        (
            {
                "baseLoss": "1.0",
                "relativeImprovement": "-0.2",
                "baseTokenAccuracy": "0.5",
                "tunedTokenAccuracy": "0.41",
                "baseForgettingLoss": "3.1",
                "tunedForgettingLoss": "3.9",
            },
            "20 % worse on 10 held-out rows: loss 1.0 before, 1.2 after; predicts 41 % of the tokens (before 50 %); loss on "
            "general text 3.1 before, 3.9 after",
        ),
        (
            {"baseLoss": "1.2", "relativeImprovement": "0.0001"},
            "the same on 10 held-out rows: loss 1.2 before, 1.2 after",
        ),
    ],
)
def test_an_evaluation_is_told_in_words(base: dict[str, str], said: str):
    """How much better, what it predicts, what it forgot; without a baseline nothing is compared."""
    measured = {"examples": 10, "tunedLoss": "1.2"} | base

    assert f"Evaluation  {said}" in details(a_job("Succeeded", evaluation=measured), NOW).splitlines()


def test_the_forms_of_a_result_are_listed_under_it():
    """Each with its place and with what it was compared; the result itself has its own line."""
    artifacts = [
        {
            "kind": kind,
            "uri": f"s3://bucket/out/{kind}",
            "digest": f"sha256:{'a' * 64}",
            "sizeBytes": 1,
            "checked": checked,
        }
        for kind, checked in (("adapter", ""), ("merged", "as base + adapter"), ("gguf-q8_0", ""))
    ]
    shown = details(a_job("Succeeded", adapterURI="s3://bucket/out/adapter", artifacts=artifacts), NOW).splitlines()

    assert shown[shown.index("Result      s3://bucket/out/adapter") + 1 :][:2] == [
        "Exports     merged at s3://bucket/out/merged (as base + adapter)",
        "            gguf-q8_0 at s3://bucket/out/gguf-q8_0",
    ]


def test_a_deleted_job_says_where_its_result_and_its_forms_stay():
    """Deleting a job takes nothing that it has published; before there is a result nothing is said."""
    artifacts = [
        {"kind": kind, "uri": f"s3://bucket/out/{kind}", "digest": f"sha256:{'a' * 64}", "sizeBytes": 1}
        for kind in ("adapter", "merged")
    ]
    job = a_job("Succeeded", adapterURI="s3://bucket/out/adapter", artifacts=artifacts)

    assert stays(job) == ["its result stays at s3://bucket/out/adapter, s3://bucket/out/merged"]
    assert stays(a_job("Failed")) == []


@pytest.mark.parametrize("name", ["", "j?x=1", "../pods/a"])
async def test_what_cannot_be_a_name_is_not_asked_for(name: str):
    """An unset variable of a script would ask for the list of all jobs."""
    with pytest.raises(JobNotFound) as refusal:
        await Jobs(api=Api(connection=None), namespace="team-a", target=Target(kubeconfig="")).get(name)

    assert str(refusal.value) == f"{name!r} is not a valid FineTuneJob name"


def test_one_job_of_all_namespaces_is_refused():
    """As kubectl does."""
    with pytest.raises(
        typer.BadParameter,
        match="a job name and --all-namespaces cannot be combined: use -n NAMESPACE, or leave out the name",
    ):
        get("tiny", all_namespaces=True)


LONG = "hf://organisation/model-with-a-long-name-Chat"
SEVERAL = [
    a_job(
        progress=PROGRESS | {"percent": 25},
        cost={"costUSD": "12.34"},
        attempts=[{"number": 0, "startTime": BORN, "runningTime": BORN}],
    ).model_copy(
        update={
            "spec": a_job().spec.model_copy(update={"model": a_job().spec.model.model_copy(update={"source": LONG})})
        }
    ),
    a_job("Failed", conditions=succeeded("False", "DatasetInvalid", "row 7 is not JSON")),
]


@pytest.mark.parametrize(
    ("width", "lines"),
    [
        (
            200,
            [
                "NAME   PHASE      REASON           MODEL                                      PLAN   PROGRESS       LOSS   COST     AGE",
                "tiny   Training                    organisation/model-with-a-long-name-Chat          25% (40/160)   1.25   $12.34   1h05m",
                "tiny   Failed     DatasetInvalid   org/model                                                                        1h05m",
            ],
        ),
        (
            100,
            [
                "NAME   PHASE      REASON           MODEL                 PLAN   PROGRESS       LOSS   COST     AGE",
                "tiny   Training                    ...a-long-name-Chat          25% (40/160)   1.25   $12.34   1h05m",
                "tiny   Failed     DatasetInvalid   org/model                                                   1h05m",
            ],
        ),
        (
            80,
            [
                "NAME   PHASE      REASON           PROGRESS       COST     AGE",
                "tiny   Training                    25% (40/160)   $12.34   1h05m",
                "tiny   Failed     DatasetInvalid                           1h05m",
            ],
        ),
        (
            40,
            [
                "NAME   PHASE      REASON           AGE",
                "tiny   Training                    1h05m",
                "tiny   Failed     DatasetInvalid   1h05m",
            ],
        ),
    ],
)
def test_a_listing_fits_the_terminal(width: int, lines: list[str]):
    """Models lose their beginning, then columns go; what is left is whole and aligned."""
    found = listing(SEVERAL, NOW, width=width, namespaces=False)

    assert found == lines
    assert max(map(len, found)) <= width


def test_conditions_that_every_job_has_are_left_out():
    """A job that runs has nothing to say by its conditions but what it does."""
    usual = [
        ("Accepted", "True"),  # of an older operator
        ("Planned", "True"),
        ("Suspended", "False"),
        ("Reconciling", "False"),
        ("Stalled", "False"),
    ]
    conditions = [
        {"type": kind, "status": status, "reason": "R", "message": kind.lower(), "lastTransitionTime": BORN}
        for kind, status in usual
    ]

    assert [each.split()[0] for each in details(a_job(conditions=conditions), NOW).splitlines()[-1:]] == ["Planned"]


def test_samples_are_shown_without_the_escapes_of_a_model():
    """What a model writes cannot clear the terminal of whoever reads it."""
    sample = {"prompt": "Hi!\nHow?", "base": "\x1b[2Jbye", "tuned": "x" * 500}
    measured = {"examples": 10, "tunedLoss": "1.2", "samples": [sample]}

    assert details(a_job("Succeeded", evaluation=measured), NOW).splitlines()[-4:] == [
        "Samples",
        "  prompt  Hi! How?",
        "  base    [2Jbye",
        f"  tuned   {'x' * 400}...",
    ]


def test_a_job_that_merges_says_what_it_merges():
    """In the place of a layout, which it does not have."""
    adapters = [{"source": f"s3://team-a/{name}", "weight": "1"} for name in ("north", "south", "west")]
    job = a_job("Succeeded").model_copy(update={"spec": merging(adapters)})

    assert "Plan        merges 3 adapters by average" in details(job, NOW).splitlines()


def merging(adapters: list[dict[str, str]]) -> FineTuneJobSpec:
    return FineTuneJobSpec.model_validate({**SMALLEST_SPEC, "mergeOf": {"adapters": adapters}})
