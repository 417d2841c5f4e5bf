"""GPUPools for the nodes that are there: nodes of one kind become one proposal. Called by `finetune pools discover`.

A proposal is a manifest, not a decision: what nodes cannot tell (price, network) has a note, or is left to fill in.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finetune_operator.planning.pools.gpus import gpu
from finetune_operator.planning.pools.node_labels import NODE_POOLS, PASSING_TAINTS
from finetune_operator.planning.pools.nodes import USABLE, WHOLE_GPU, Offer, Remark, SeenNode, Taint, offers

Spec = dict[str, Any]
Selector = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """What a GPU costs for an hour, in US dollars as decimals."""

    given: Mapping[str, str]
    """By the user: name of a pool, or GPU type -> price."""
    listed: Mapping[tuple[str, str], str]
    """(GPU type, capacity) -> price that a cloud asks."""
    source: str
    """Where the listed ones come from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """One GPUPool."""

    name: str
    spec: Spec
    """As in a manifest."""
    notes: Mapping[str, str]
    """Field -> what to check; a field that is not in the spec must be filled in."""

    @property
    def complete(self) -> bool:
        """Whether nothing has to be filled in."""
        return set(self.notes) <= set(self.spec)


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovery:
    """What was made of the nodes."""

    proposals: tuple[Proposal, ...]
    remarks: tuple[str, ...]
    """Sentences about nodes, each with their names."""


def discover(nodes: Sequence[SeenNode], prices: Prices) -> Discovery:
    """Propose pools for nodes; nodes without GPUs are passed over."""
    found = [each for node in nodes for each in offers(node)]
    groups = _groups(each for each in found if isinstance(each, Offer))
    remarks = [each for each in found if isinstance(each, Remark)]
    names = _names(groups)
    proposals = []
    for name, group in zip(names, groups, strict=True):
        selector, odd = _selector(group, nodes)
        tolerations, strange = _tolerations(group)
        remarks += [Remark(node=group[0].node.name, text=f"pool {name}: {text}") for text in (*odd, *strange)]
        proposals.append(_proposal(name, group, selector, tolerations, prices))
    return Discovery(proposals=tuple(proposals), remarks=_merged(remarks))


def _groups(found: Iterable[Offer]) -> list[list[Offer]]:
    """Put offers of one kind together, in a stable order."""
    groups: dict[tuple[object, ...], list[Offer]] = {}
    for offer in found:
        key = (offer.gpu_type, offer.capacity, offer.resource, offer.count, offer.selector, offer.memory_gib)
        groups.setdefault(key, []).append(offer)
    return [groups[key] for key in sorted(groups, key=str)]


def _names(groups: Sequence[Sequence[Offer]]) -> list[str]:
    """Name each group by GPU, slice and capacity; where that is not enough by GPUs per node, then by a number."""
    short = [_short(group[0]) for group in groups]
    longer = [
        f"{name}-x{group[0].count}" if short.count(name) > 1 else name
        for name, group in zip(short, groups, strict=True)
    ]
    return [
        f"{name}-{longer[: index + 1].count(name)}" if longer.count(name) > 1 else name
        for index, name in enumerate(longer)
    ]


def _short(offer: Offer) -> str:
    name = offer.gpu_type.lower().replace("_", "-")
    for vendor in ("nvidia-", "tesla-", "geforce-"):
        name = name.removeprefix(vendor)
    sliced = "" if offer.resource == WHOLE_GPU else "-" + offer.resource.removeprefix("nvidia.com/")
    return name + sliced + ("-spot" if offer.capacity == "spot" else "")


def _selector(group: Sequence[Offer], nodes: Sequence[SeenNode]) -> tuple[Selector, tuple[str, ...]]:
    """Return labels that these nodes have and no other node with the same resource; a remark where there are none."""
    selector, resource = dict(group[0].selector), group[0].resource
    mine = {offer.node.name for offer in group}
    others = [node for node in nodes if node.name not in mine and node.gpus.get(resource)]
    rivals = [node for node in others if selector.items() <= node.labels.items()]
    if not rivals:
        return tuple(selector.items()), ()
    for key in NODE_POOLS:
        values = {offer.node.labels.get(key) for offer in group}
        value = next(iter(values))
        if len(values) == 1 and value and all(node.labels.get(key) != value for node in rivals):
            return (*selector.items(), (key, value)), ()
    return tuple(selector.items()), (
        f"its labels also match {_list([node.name for node in rivals])}, which have different GPUs:"
        " give the nodes of the pool a label of their own and select by it",
    )


def _tolerations(group: Sequence[Offer]) -> tuple[list[Spec], tuple[str, ...]]:
    """Return tolerations for the taints that all these nodes have; a remark about those that some have."""
    each = [{taint for taint in offer.node.taints if not taint.key.startswith(PASSING_TAINTS)} for offer in group]
    common = set.intersection(*each)
    some = sorted({taint.key for taint in set.union(*each) - common})
    odd = (f"only some of its nodes have the taint {_list(some)}, so the pool does not tolerate it",) if some else ()
    return [_toleration(taint) for taint in sorted(common, key=lambda taint: (taint.key, taint.effect))], odd


def _toleration(taint: Taint) -> Spec:
    """The value of nvidia.com/gpu means nothing: platforms write present, true or nothing."""
    if taint.key == WHOLE_GPU or not taint.value:
        return {"key": taint.key, "operator": "Exists", "effect": taint.effect}
    return {"key": taint.key, "operator": "Equal", "value": taint.value, "effect": taint.effect}


def _proposal(
    name: str, group: Sequence[Offer], selector: Selector, tolerations: list[Spec], prices: Prices
) -> Proposal:
    first, notes = group[0], {"maxNodes": "the nodes that exist now; add those that an autoscaler can add"}
    alone = bool(first.slice_of) and first.resource == WHOLE_GPU  # a slice that looks like a whole GPU
    parts = first.count if alone else 1
    spec: Spec = {"gpuType": first.gpu_type}
    if first.memory_gib is not None:
        spec["memoryGiB"] = f"{first.memory_gib:g}"
        notes["memoryGiB"] = f"{USABLE:.1%} of what nvidia-smi reports; replace it with what PyTorch reports"
    elif not first.known:
        notes["memoryGiB"] = "required: this GPU is not in the catalogue, and no label gives its memory"
    spec |= {
        "gpusPerNode": first.count // parts,
        "maxNodes": len(group) * parts,
        "node": _shape(group, parts),
        "resourceName": first.resource,
        "nodeSelector": [{"key": key, "value": value} for key, value in selector],
        "tolerations": tolerations,
    }
    if alone:
        notes["gpusPerNode"] = (
            f"each slice counts as a node with one GPU ({first.count} per node); slices cannot be combined"
        )
    interconnect, notes["interconnect"] = _interconnect(first, alone=alone)
    price, notes["pricePerGPUHourUSD"] = _price(name, first, prices)
    spec |= {"interconnect": interconnect, "capacity": first.capacity}
    return Proposal(name=name, spec=spec | price, notes=notes)


def _shape(group: Sequence[Offer], parts: int) -> Spec:
    """Return what the smallest node offers, in whole numbers; for a slice its part of that."""
    nodes = [offer.node for offer in group]
    return {
        "cpus": max(1, int(min(node.cpus for node in nodes) / parts)),
        "memoryGiB": max(1, int(min(node.memory_gib for node in nodes) / parts)),
        "ephemeralGiB": max(1, int(min(node.ephemeral_gib for node in nodes) / parts)),
    }


def _interconnect(offer: Offer, *, alone: bool) -> tuple[Spec, str]:
    """NVLink follows from the card; the network between nodes is not to be seen on a Node."""
    if alone or offer.slice_of:
        return {"betweenNodes": "none"}, "slices cannot be combined"
    entry = gpu(offer.gpu_type)
    joined = entry is not None and entry.link_gbps > 0 and "NVL" not in entry.name and offer.count > 1
    inside = {"withinNode": "nvlink" if joined else "pcie"}
    return inside, "the network between nodes is unknown: without betweenNodes, 25 Gbit/s Ethernet is assumed"


def _price(name: str, offer: Offer, prices: Prices) -> tuple[Spec, str]:
    """Return the user's price, else a listed one, else nothing: a price must not be made up."""
    field = "pricePerGPUHourUSD"
    if price := prices.given.get(name) or ("" if offer.slice_of else prices.given.get(offer.gpu_type)):
        return {field: price}, "from --price"
    listed = "" if offer.slice_of else prices.listed.get((offer.gpu_type, offer.capacity))
    if listed:
        return {field: listed}, f"a list price ({prices.source}): replace it with what you pay"
    return {}, f"required: enter what you pay, or run with --price {name}=USD"


def _merged(remarks: Iterable[Remark]) -> tuple[str, ...]:
    """Say each thing once, with the nodes that it is true of."""
    by_text: dict[str, list[str]] = {}
    for remark in remarks:
        by_text.setdefault(remark.text, []).append(remark.node)
    return tuple(
        text if text.startswith("pool ") else f"node{'s' if len(set(names)) > 1 else ''} {_list(names)}: {text}"
        for text, names in by_text.items()
    )


def _list(names: Sequence[str]) -> str:
    """Name three at most."""
    unique = list(dict.fromkeys(names))
    return ", ".join(unique[:3]) + (f" and {len(unique) - 3} more" if len(unique) > 3 else "")
