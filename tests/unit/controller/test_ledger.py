"""The money of a calendar month, by job: deleted jobs stay, earlier months do not count."""

from decimal import Decimal

from finetune_operator.api.policies import FineTunePolicyStatus, LedgerEntry
from finetune_operator.controller.ledger import MOST_ENTRIES, ledger
from finetune_operator.controller.stored import Stored

JUNE, JULY = "2026-06", "2026-07"


def a_job(uid: str, cost: str, created: str = f"{JUNE}-10T00:00:00Z") -> Stored:
    return Stored(
        kind="FineTuneJob", uid=uid, name=f"job-{uid}", namespace="team-a", version=1, owner_uid="", family="",
        text="{}", cost_usd=cost, created=created,
    )  # fmt: skip


def status(month: str, *entries: LedgerEntry, closed: str = "0.00") -> FineTunePolicyStatus:
    return FineTunePolicyStatus(month=month, jobs=list(entries), closed_usd=closed)


def entry(uid: str, cost: str, earlier: str = "0.00") -> LedgerEntry:
    return LedgerEntry(uid=uid, job=f"job-{uid}", cost_usd=cost, earlier_usd=earlier)


def test_what_jobs_cost_this_month_is_added_up():
    """A job that has cost nothing yet has no line."""
    found = ledger(status(JUNE), [a_job("a", "2.50"), a_job("b", "1.25"), a_job("c", "0.00")], JUNE)

    assert found.entries == (entry("a", "2.50"), entry("b", "1.25"))
    assert found.spent_usd == Decimal("3.75")


def test_a_deleted_job_stays_in_its_month():
    """Deleting a job does not give its money back."""
    found = ledger(status(JUNE, entry("a", "2.50"), entry("b", "1.00")), [a_job("b", "4.00")], JUNE)

    assert found.entries == (entry("a", "2.50"), entry("b", "4.00"))
    assert found.spent_usd == Decimal("6.50")


def test_a_new_month_starts_at_nothing():
    """A job that runs on counts from here; deleted ones are forgotten."""
    before = status(JUNE, entry("a", "2.50"), entry("gone", "9.00"), closed="3.00")
    july = ledger(before, [a_job("a", "2.75")], JULY)
    later = ledger(status(JULY, *july.entries), [a_job("a", "5.00")], JULY)

    assert (july.entries, july.spent_usd) == ((entry("a", "0.25", "2.50"),), Decimal("0.25"))
    assert later.spent_usd == Decimal("2.50")


def test_jobs_of_earlier_months_do_not_count_when_a_policy_is_created():
    """What was spent before there was a ledger is not this month's; a job of this month counts in full."""
    found = ledger(status(""), [a_job("old", "100.00"), a_job("new", "3.00", f"{JULY}-02T00:00:00Z")], JULY)

    assert found.entries == (entry("new", "3.00"), entry("old", "0.00", "100.00"))
    assert found.spent_usd == Decimal("3.00")


def test_a_full_ledger_folds_deleted_jobs_into_one_sum():
    """The list has a limit, the money does not."""
    many = [entry(f"{number:04}", "1.00") for number in range(MOST_ENTRIES)]
    found = ledger(status(JUNE, *many), [a_job("9999", "2.00")], JUNE)
    again = ledger(status(JUNE, *found.entries, closed=str(found.closed_usd)), [a_job("9999", "2.00")], JUNE)

    assert len(found.entries) == MOST_ENTRIES
    assert found.closed_usd == Decimal("1.00")
    assert (found.spent_usd, again.spent_usd) == (Decimal(MOST_ENTRIES + 2), Decimal(MOST_ENTRIES + 2))
