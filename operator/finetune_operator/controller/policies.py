"""FineTunePolicy.status: what the jobs of a namespace use and have spent. Called by process; writes only what changed."""

import asyncio
import logging
from dataclasses import dataclass, field

from finetune_contract.cost import amount
from pydantic import ValidationError

from finetune_operator.api.group import POLICY_KIND
from finetune_operator.api.policies import FineTunePolicy, FineTunePolicyStatus
from finetune_operator.controller import metrics
from finetune_operator.controller.api import Api
from finetune_operator.controller.ledger import ledger
from finetune_operator.controller.parsed import parsed_policy
from finetune_operator.controller.store import Store
from finetune_operator.controller.stored import Stored, collection
from finetune_operator.controller.upkeep import keep_up
from finetune_operator.errors import Conflict
from finetune_operator.lifecycle.observation import Team
from finetune_operator.lifecycle.team import month_of

log = logging.getLogger(__name__)

WRITE_SECONDS = 5.0
"""Shortest time between two writes of a ledger: costs grow in steps of a minute, and a burst of jobs is one change."""

MONTH_SECONDS = 300.0
"""So long after midnight at the latest a new month is begun, where nothing else happens."""


def policy_of(store: Store, namespace: str) -> FineTunePolicy | None:
    """Return the policy of a namespace, None without one. Raises ValidationError for one that a newer CRD allows."""
    found = [each for each in store.of_kind("FineTunePolicy") if each.namespace == namespace]
    return parsed_policy(found[0].text) if found else None


def jobs_of(store: Store, namespace: str) -> tuple[Stored, ...]:
    """Return the jobs of a namespace."""
    return tuple(job for job in store.of_kind("FineTuneJob") if job.namespace == namespace)


def team_of(store: Store, namespace: str, uid: str, month: str) -> Team | None:
    """Return the policy of a job's namespace with what the jobs there use at this moment; None without a policy."""
    policy = policy_of(store, namespace)
    if policy is None:
        return None
    jobs = jobs_of(store, namespace)
    return Team(
        policy=policy,
        spent_usd=ledger(policy.status, jobs, month).spent_usd,
        running=tuple((job.name, job.gpus) for job in jobs if job.running and job.uid != uid),
    )


def policy_status(policy: FineTunePolicy, jobs: tuple[Stored, ...], month: str) -> FineTunePolicyStatus:
    """Return the status of a policy."""
    found = ledger(policy.status, jobs, month)
    running = [job for job in jobs if job.running]
    return FineTunePolicyStatus(
        observed_generation=policy.metadata.generation,
        gpus_in_use=sum(job.gpus for job in running),
        running_jobs=len(running),
        month=month,
        spent_usd=amount(found.spent_usd),
        jobs=list(found.entries),
        closed_usd=amount(found.closed_usd),
    )


@dataclass(slots=True)
class Policies:
    """Keeps the status of all policies."""

    api: Api
    store: Store
    _dirty: asyncio.Event = field(default_factory=asyncio.Event)

    def changed(self) -> None:
        """Note that a policy or a job changed."""
        self._dirty.set()

    async def run(self) -> None:
        """Keep the status for ever."""
        await keep_up("FineTunePolicy", self.once, self._dirty, pause=WRITE_SECONDS, longest=MONTH_SECONDS)

    async def once(self) -> None:
        """Write the status of every policy where it differs."""
        self._dirty.clear()
        metrics.MONTH_COST.clear()
        month = month_of(self.api.clock.now())
        for stored in self.store.of_kind("FineTunePolicy"):
            try:
                policy = parsed_policy(stored.text)
            except ValidationError as error:
                log.warning("FineTunePolicy cannot be read", extra={"namespace": stored.namespace, "error": str(error)})
                continue
            status = policy_status(policy, jobs_of(self.store, stored.namespace), month)
            metrics.MONTH_COST.labels(stored.namespace).set(float(status.spent_usd))
            if status != policy.status:
                await self._write(stored, status)

    async def _write(self, stored: Stored, status: FineTunePolicyStatus) -> None:
        body = stored.raw | {"status": status.model_dump(mode="json", by_alias=True, exclude_none=True)}
        path = f"{collection(POLICY_KIND, stored.namespace)}/{stored.name}/status"
        answer = await self.api.write("PUT", path, body)
        try:
            self.store.put("FineTunePolicy", answer.expect(200))
        except Conflict:
            self._dirty.set()
