"""Jobs of a cluster whose operator is of another version."""

import pytest
from finetune_operator.cli.stored import readable, stored_job
from finetune_operator.errors import FinetuneError

from tests.unit.smallest_spec import SMALLEST_SPEC

SAID = (
    "FineTuneJob team-a/newer cannot be read by this version of finetune: spec.trainOnTheMoon: extra inputs are not permitted. "
    "Install the version that the operator has; `finetune get NAME -o yaml` prints the job as it is"
)


def a_job(name: str, **more: object) -> dict[str, object]:
    """A job as a list of the API server has it: without kind."""
    return {"metadata": {"name": name, "namespace": "team-a", "uid": "u"}, "spec": SMALLEST_SPEC | more}


def test_a_field_that_this_version_does_not_know_is_named():
    """With the job, and what to install."""
    with pytest.raises(FinetuneError) as refusal:
        stored_job(a_job("newer", trainOnTheMoon=True))

    assert str(refusal.value) == SAID


def test_a_job_that_cannot_be_read_hides_no_other(capsys: pytest.CaptureFixture[str]):
    """It is said once, however often the jobs are read."""
    listed = [a_job("newer", trainOnTheMoon=True), a_job("known")]
    seen = [[job.metadata.name for job in readable(listed)] for _ in range(2)]

    assert seen == [["known"], ["known"]]
    assert capsys.readouterr().err == f"finetune: left out: {SAID}\n"
