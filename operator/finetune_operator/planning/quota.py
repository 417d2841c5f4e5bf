"""What the namespace's ResourceQuotas and LimitRanges let a run have. Called by host, refusal and planner.

Only `hard` counts here: what is merely used up by others is waited for, not planned around.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal

from finetune_operator.api.plan import HostNeeds, PoolSnapshot
from finetune_operator.api.pools import GPUPoolSpec

GIB = 2**30

KEPT_PODS = 1
"""The preflight Pod has ended by then. `pods` does not count it any more, `count/pods` does."""

BYTES = ("memory", "ephemeral-storage")
WORDS = {"memory": "memory", "ephemeral-storage": "local disk", "cpu": "CPUs"}

Amounts = tuple[tuple[str, Decimal], ...]
"""Resource -> amount, in bytes where it is memory or disk. A tuple, because plans are remembered by what they were made from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """A ResourceQuota that counts the trainer Pods of a job."""

    name: str
    hard: Amounts


@dataclass(frozen=True, slots=True, kw_only=True)
class PodRange:
    """What a LimitRange demands of one Pod, or of its container, which is the only one."""

    name: str
    most: Amounts = ()
    least: Amounts = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceLimits:
    """All of them."""

    quotas: tuple[Quota, ...] = ()
    ranges: tuple[PodRange, ...] = ()

    def cpus_per_pod(self, replicas: int) -> int | None:
        """Return the CPUs that each of so many Pods may have; None without a limit."""
        shares = [
            amount / replicas for quota in self.quotas for name, amount in quota.hard if resource_of(name) == "cpu"
        ]
        shares += [amount for each in self.ranges for name, amount in each.most if name == "cpu"]
        return math.floor(min(shares)) if shares else None


UNLIMITED = NamespaceLimits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pods:
    """The Pods of a run, as a quota counts them."""

    replicas: int
    one: Mapping[str, Decimal]
    """What one of them requests, which is also its limit."""

    def asked(self, hard: str) -> Decimal:
        """Return how much of a quota's resource they take."""
        match hard:
            case "pods":
                return Decimal(self.replicas)
            case "count/pods":
                return Decimal(self.replicas + KEPT_PODS)
            case "services" | "count/services":
                return Decimal(1 if self.replicas > 1 else 0)
        return self.replicas * self.one.get(resource_of(hard), Decimal(0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortage:
    """What a quota or a LimitRange does not let the run have."""

    text: str
    excess: float
    """Need over what is allowed, less one."""
    remedy: str
    """The change that lets it."""


def pods_of(pool: GPUPoolSpec | PoolSnapshot, replicas: int, gpus_per_replica: int, host: HostNeeds) -> Pods:
    """Return the Pods of a layout."""
    one = {each.key: Decimal(each.quantity) for each in pool.pod.resources} | {
        "cpu": Decimal(host.cpus),
        "memory": Decimal(host.memory_gib * GIB),
        "ephemeral-storage": Decimal(host.ephemeral_gib * GIB),
        pool.resource_name: Decimal(gpus_per_replica),
    }
    return Pods(replicas=replicas, one=one)


def shortages(limits: NamespaceLimits, pods: Pods) -> Iterator[Shortage]:
    """Yield what is refused however long the job waits: more than a quota's `hard`, or than one Pod may have."""
    for quota in limits.quotas:
        for hard, amount in quota.hard:
            need = pods.asked(hard)
            if need > amount:
                yield Shortage(
                    text=f"{spoken(hard, need)} (quota {quota.name} allows {figure(hard, amount)})",
                    excess=over(need, amount),
                    remedy=f"{hard} {quantity(hard, need)} in quota {quota.name}",
                )
    for each in limits.ranges:
        yield from _out_of_range(each, pods)


def _out_of_range(limit: PodRange, pods: Pods) -> Iterator[Shortage]:
    for name, most in limit.most:
        if (need := pods.one.get(name, Decimal(0))) > most:
            yield Shortage(
                text=f"{spoken(name, need)} per Pod (LimitRange {limit.name} allows {figure(name, most)})",
                excess=over(need, most),
                remedy=f"max {name} {quantity(name, need)} in LimitRange {limit.name}",
            )
    for name, least in limit.least:
        if (need := pods.one.get(name, Decimal(0))) < least:
            yield Shortage(
                text=f"only {spoken(name, need)} per Pod (LimitRange {limit.name} requires at least {figure(name, least)})",
                excess=over(least, need),
                remedy=f"min {name} {quantity(name, need)} in LimitRange {limit.name}",
            )


def shares(limits: NamespaceLimits, pods: Pods) -> tuple[str, ...]:
    """Return what the run takes of each quota: `8 of 8 GPUs of quota team-a`."""
    told = (
        (quota.name, [share for hard, amount in quota.hard if (share := _share(hard, pods.asked(hard), amount))])
        for quota in limits.quotas
    )
    return tuple(f"{', '.join(dict.fromkeys(parts))} of quota {name}" for name, parts in told if parts)


def _share(hard: str, need: Decimal, amount: Decimal) -> str:
    if not need:
        return ""
    return f"{figure(hard, need, unit=False)} of {spoken(hard, amount)}"


def resource_of(hard: str) -> str:
    """Return the resource of a Pod that a quota's entry is about."""
    return hard.removeprefix("requests.").removeprefix("limits.")


def spoken(hard: str, amount: Decimal) -> str:
    """Return an amount with its unit, as people say it: 8 GPUs, 640 GiB of memory."""
    name = resource_of(hard)
    if name in BYTES:
        return f"{figure(hard, amount)} of {WORDS[name]}"
    noun = noun_of(name)
    return f"{figure(hard, amount)} {noun.removesuffix('s') if amount == 1 else noun}"


def noun_of(name: str) -> str:
    """Return what a resource is called, in the plural."""
    if name.endswith(".com/gpu"):
        return "GPUs"
    if "/mig-" in name:
        return f"{name.partition('/')[2]} slices"
    if name in ("pods", "count/pods"):
        return "Pods"
    if name in ("services", "count/services"):
        return "Services"
    return WORDS.get(name, name)


def figure(hard: str, amount: Decimal, *, unit: bool = True) -> str:
    """Return an amount as people read it."""
    if resource_of(hard) not in BYTES:
        return f"{amount.normalize():,f}"
    gib = amount / GIB
    digits = f"{gib:,.0f}" if gib == gib.to_integral_value() else f"{gib:,.1f}"
    return f"{digits} GiB" if unit else digits


def quantity(hard: str, amount: Decimal) -> str:
    """Return an amount as it is written into a quota."""
    if resource_of(hard) not in BYTES:
        return f"{amount.normalize():f}"
    return f"{math.ceil(amount / GIB)}Gi"


def over(need: Decimal, allowed: Decimal) -> float:
    """Return how far a need is from what is allowed."""
    return float(need / allowed - 1) if allowed else float(need)
