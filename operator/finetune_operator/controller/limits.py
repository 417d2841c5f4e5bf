"""ResourceQuotas and LimitRanges as the planner reads them: those that count the trainer Pods of a job. Pure.

Called by cluster for what the API server has, and by `finetune plan --quota` for what a file says.
"""

import functools
import json
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from kubernetes.utils.quantity import parse_quantity

from finetune_operator.api.status import FineTuneJob
from finetune_operator.controller.store import Store
from finetune_operator.controller.stored import QUOTA_KINDS
from finetune_operator.planning.quota import UNLIMITED, Amounts, NamespaceLimits, PodRange, Quota

Raw = dict[str, Any]

PLAIN_SCOPES = {"NotBestEffort": True, "NotTerminating": True, "BestEffort": False, "Terminating": False}
"""Trainer Pods have requests and no deadline. They demand no place beside Pods of other namespaces."""


def namespace_limits(objects: Iterable[Raw], priority_class: str) -> NamespaceLimits:
    """Return what some ResourceQuotas and LimitRanges let trainer Pods of a PriorityClass have, by name."""
    ordered = sorted(objects, key=lambda each: str(each["metadata"]["name"]))
    quotas = (each for each in ordered if each["kind"] == "ResourceQuota" and counts(each, priority_class))
    ranges = (pod_range(each) for each in ordered if each["kind"] == "LimitRange")
    return NamespaceLimits(
        quotas=tuple(Quota(name=each["metadata"]["name"], hard=amounts(each["spec"].get("hard"))) for each in quotas),
        ranges=tuple(each for each in ranges if each.most or each.least),
    )


@functools.lru_cache(maxsize=256)
def stored_limits(texts: tuple[str, ...], priority_class: str) -> NamespaceLimits:
    """Return the same for objects as the store keeps them: many jobs ask about one namespace."""
    return namespace_limits(map(json.loads, texts), priority_class)


def counts(quota: Raw, priority_class: str) -> bool:
    """Tell whether a quota counts the trainer Pods of a job: all its scopes must hold for them."""
    spec = quota["spec"]
    terms = (spec.get("scopeSelector") or {}).get("matchExpressions") or ()
    return all(PLAIN_SCOPES.get(scope, False) for scope in spec.get("scopes") or ()) and all(
        _holds(term, priority_class) for term in terms
    )


def _holds(term: Mapping[str, Any], priority_class: str) -> bool:
    """Tell whether a term of a scope selector holds. Only PriorityClass has operators other than Exists."""
    if term["scopeName"] != "PriorityClass":
        return PLAIN_SCOPES.get(term["scopeName"], False)
    values = term.get("values") or ()
    match term["operator"]:
        case "In":
            return priority_class in values
        case "NotIn":
            return priority_class not in values
        case "Exists":
            return bool(priority_class)
        case _:
            return not priority_class


def pod_range(limit_range: Raw) -> PodRange:
    """Return what a LimitRange demands of a Pod with one container; the strictest of its entries."""
    items = [each for each in limit_range["spec"].get("limits") or () if each.get("type") in ("Pod", "Container")]
    most = [amounts(each.get("max")) for each in items]
    least = [amounts(each.get("min")) for each in items]
    return PodRange(
        name=limit_range["metadata"]["name"],
        most=_strictest(most, smallest=True),
        least=_strictest(least, smallest=False),
    )


def _strictest(many: list[Amounts], *, smallest: bool) -> Amounts:
    found: dict[str, Decimal] = {}
    for name, amount in (pair for one in many for pair in one):
        known = found.get(name, amount)
        found[name] = min(known, amount) if smallest else max(known, amount)
    return tuple(found.items())


def amounts(hard: Mapping[str, Any] | None) -> Amounts:
    """Return quantities as numbers, in the order in which they are written."""
    return tuple((name, parse_quantity(quantity)) for name, quantity in (hard or {}).items())


def limits_for(store: Store, job: FineTuneJob) -> NamespaceLimits:
    """Return what a job's namespace lets it have; read only as long as there is something to plan."""
    attempts = job.status.attempts
    if attempts and attempts[-1].running_time is not None:
        return UNLIMITED
    objects = (each for kind in QUOTA_KINDS for each in store.of_kind(kind))
    mine = tuple(sorted(each.text for each in objects if each.namespace == job.metadata.namespace))
    return stored_limits(mine, job.spec.priority_class_name or "")
