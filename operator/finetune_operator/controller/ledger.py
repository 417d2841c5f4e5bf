"""What the jobs of a namespace have cost in a calendar month, by uid: deleted jobs stay in it until the month ends. Pure.

Called by policies, which writes it into the status of the FineTunePolicy, and by cluster, which reads it before it is written.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from finetune_contract.cost import amount

from finetune_operator.api.policies import FineTunePolicyStatus, LedgerEntry
from finetune_operator.controller.stored import Stored

MOST_ENTRIES = 1000
"""What the schema allows."""

NOTHING = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """The costs of one month."""

    month: str
    entries: tuple[LedgerEntry, ...]
    closed_usd: Decimal

    @property
    def spent_usd(self) -> Decimal:
        """The cost of all jobs in the month."""
        return self.closed_usd + sum((Decimal(entry.cost_usd) for entry in self.entries), NOTHING)


def ledger(before: FineTunePolicyStatus, jobs: Iterable[Stored], month: str) -> Ledger:
    """Return the ledger of a month, given the one before and the jobs that exist."""
    same = before.month == month
    known = {entry.uid: entry for entry in before.jobs}
    live = [entry for job in jobs if (entry := _entry(job, known.get(job.uid), month, same=same)) is not None]
    present = {entry.uid for entry in live}
    gone = [entry for entry in before.jobs if entry.uid not in present] if same else []
    closed = Decimal(before.closed_usd) if same else NOTHING
    folded = max(0, len(live) + len(gone) - MOST_ENTRIES)
    closed += sum((Decimal(entry.cost_usd) for entry in gone[:folded]), NOTHING)
    entries = sorted((*gone[folded:], *live), key=lambda entry: entry.uid)
    return Ledger(month=month, entries=tuple(entries), closed_usd=closed)


def _entry(job: Stored, known: LedgerEntry | None, month: str, *, same: bool) -> LedgerEntry | None:
    """Return a job's line. What it has cost before the month, or before there was a policy, is not this month's."""
    total = Decimal(job.cost_usd)
    if not total and known is None:
        return None
    if known is None:
        earlier = NOTHING if job.created.startswith(month) else total
    else:
        earlier = Decimal(known.earlier_usd) + (NOTHING if same else Decimal(known.cost_usd))
    return LedgerEntry(
        uid=job.uid, job=job.name, cost_usd=amount(max(NOTHING, total - earlier)), earlier_usd=amount(earlier)
    )
