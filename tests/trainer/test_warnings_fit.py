"""Many warnings share one termination message: each is cut before one is left out."""

from dataclasses import replace

from finetune_contract import outcome_text
from finetune_contract.report import Outcome
from finetune_contract.wire import loads
from finetune_trainer.preflight.examine import examine


def test_every_warning_is_still_there_where_not_all_fit(job, workspaces):
    """The beginning says what, the end says what to do."""
    found = examine(job, workspaces())
    warnings = tuple(f"warning {number}: {'x' * 900} do this" for number in range(8))
    text = outcome_text(replace(found, preflight=replace(found.preflight, warnings=warnings)))

    told = loads(Outcome, text).preflight.warnings
    assert len(text.encode()) <= 4096
    assert [warning[:10] for warning in told] == [f"warning {number}:" for number in range(8)]
    assert all(warning.endswith(" do this") for warning in told)
