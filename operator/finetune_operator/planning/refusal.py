"""Say why nothing fits: the need per term against what there is, and the nearest things that would. Called by planner.

Every remedy named here was planned before it is named.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from finetune_operator.api.pools import GPUPool
from finetune_operator.api.resolved import Method
from finetune_operator.api.spec import FineTuneJobSpec
from finetune_operator.api.validation import violations
from finetune_operator.planning.candidate import Candidate, Refused
from finetune_operator.planning.layouts import (
    batch_for,
    card_name,
    counted,
    gpu_counts,
    is_slice,
    most_gpus,
    nearest_multiple,
    shareable_batch,
)
from finetune_operator.planning.methods import ADAPTERS
from finetune_operator.planning.quota import UNLIMITED, pods_of, shortages
from finetune_operator.planning.report import terms_gib
from finetune_operator.planning.search import Findings, Question, allowed, named_pools, search, work_of
from finetune_operator.planning.survey import Survey, solved

SHORTEST_SEQUENCE = 256
MOST_NODES = 64
MOST_REMEDIES = 4
WOULD_FIT = "; would fit: "
HOPELESS = "; no smaller change makes it fit: use a smaller model or a pool with more memory"


def refusal(question: Question, findings: Findings) -> str:
    """Return the message of DoesNotFit."""
    pools = allowed(question.pools, question.spec)
    if not pools:
        return _no_pool(question)
    if not findings.refused:
        return f"{_too_few_gpus(question, pools)}{_remedies(question)}"
    if (free := _without_limits(question)) is not None:
        return _beyond_limits(question, free)
    nearest = min(findings.refused, key=lambda one: (one.excess, one.gpus))
    return f"{_need(nearest)}{_remedies(question, hopeless=HOPELESS if math.isfinite(nearest.excess) else '')}"


def _no_pool(question: Question) -> str:
    if not question.pools:
        return "there are no GPUPools: create them, starting from the output of `finetune pools discover`"
    resources = question.spec.resources
    if free := named_pools(question.pools, resources):
        listed = ", ".join(pool.metadata.name for pool in free)
        return (
            f"runPolicy.budget needs a price, and pricePerGPUHourUSD is 0 in every pool that the job may use ({listed}): set the price in "
            "a GPUPool, or remove the budget"
        )
    asked = [f"pools {', '.join(resources.pools)}"] if resources.pools else []
    asked += [f"capacity {resources.capacity}"] if resources.capacity != "any" else []
    names = ", ".join(f"{pool.metadata.name} ({pool.spec.capacity})" for pool in question.pools)
    return f"no GPUPool matches spec.resources ({'; '.join(asked)}). Available pools: {names}"


def _without_limits(question: Question) -> Candidate | None:
    """Return the smallest plan that only the namespace's quotas forbid, None where it is not they who forbid it."""
    if question.limits == UNLIMITED:
        return None
    survey = Survey(question=replace(question, limits=UNLIMITED))
    choice = survey.choice()
    return survey.fewest_gpus(choice.method) if choice and survey.findings(choice.method).fitting else None


def _beyond_limits(question: Question, free: Candidate) -> str:
    """Say what the quotas do not allow, by how much they would have to be raised, and what fits within them."""
    layout, host = free.layout, replace(free, work=replace(free.work, limits=question.limits)).host
    pods = pods_of(free.pool.spec, layout.replicas, layout.gpus_per_replica, host)
    found = tuple(shortages(question.limits, pods))
    lacking, raised = " and ".join(one.text for one in found), " and ".join(one.remedy for one in found)
    others = _remedies(question).removeprefix(WOULD_FIT)
    return f"{free.summary} needs {lacking}{WOULD_FIT}{'; '.join(filter(None, (raised, others)))}"


def _too_few_gpus(question: Question, pools: tuple[GPUPool, ...]) -> str:
    most = max(pool.spec.gpus_per_node * pool.spec.max_nodes for pool in pools)
    asked = question.spec.resources.gpus
    wanted = f"spec.resources.gpus is {asked}" if asked else "the job needs at least one GPU"
    if asked is None or asked > most:
        return f"{wanted}, but the largest pool has {counted(most, 'GPU')}"
    together = max(most_gpus(pool.spec) for pool in pools)
    apart = (
        "MIG slices run alone"
        if all(is_slice(pool.spec) for pool in pools)
        else "their nodes have no network (betweenNodes)"
    )
    return f"{wanted}, but one job can use at most {counted(together, 'GPU')} of these pools: {apart}"


def _need(nearest: Refused) -> str:
    layout = f"{nearest.summary} ({nearest.sharding})" if nearest.sharding else nearest.summary
    if nearest.memory is None:
        return f"{layout}: {nearest.reason}"
    terms = sorted(terms_gib(nearest.memory).items(), key=lambda pair: -pair[1])
    parts = ", ".join(f"{term} {gib:.1f}" for term, gib in terms if gib >= 0.05)
    host = nearest.reason.partition("; ")[2]
    return (
        f"{layout} needs {nearest.memory.request_gib:.1f} GiB per GPU including the margin{nearest.memory.when}, but "
        f"{card_name(nearest.pool)} has {nearest.usable_gib:.1f} GiB ({parts})" + (f"; it also {host}" if host else "")
    )


def _remedies(question: Question, hopeless: str = "") -> str:
    found = islice(_fitting(question), MOST_REMEDIES)  # each one is planned
    texts = [f"{text} ({one.summary}, ${one.usd:,.2f})" for text, one in found]
    if not texts:
        return hopeless
    return WOULD_FIT + "; ".join(texts)


def _fitting(question: Question) -> Iterator[tuple[str, Candidate]]:
    told = set()
    for text, changed in _changes(question):
        # what the API would refuse is no remedy: precision mixed and method qlora
        found = None if violations(changed.spec) else solved(changed)
        if found:
            told.add(text)
            yield text, found
    for remedy in (_other_gpus, _other_batch, _shorter, _more_nodes):
        verified = remedy(question)
        if verified and verified[0] not in told:
            yield verified


def _methods(spec: FineTuneJobSpec) -> tuple[Method, ...]:
    return ADAPTERS if spec.method == "auto" else (spec.method,)


def _changes(question: Question) -> Iterator[tuple[str, Question]]:
    """Changes of one field each, the least first."""
    spec, training = question.spec, question.spec.training
    others: dict[str, tuple[Method, ...]] = {"full": ("lora", "qlora"), "lora": ("qlora",)}
    for method in (each for each in others.get(spec.method, ()) if each in question.methods):
        yield f"method {method}", with_spec(question, method=method)
    if spec.method == "full" and training.optimizer in ("auto", "adamw"):
        yield "training.optimizer adamw-8bit", _with_training(question, optimizer="adamw-8bit")
    if training.global_batch_size is not None and training.global_batch_size & (-training.global_batch_size) < 8:
        nearest = shareable_batch(training.global_batch_size)
        yield f"training.globalBatchSize {nearest}", _with_training(question, global_batch_size=nearest)
    if spec.lora.variant == "adalora":
        standard = spec.lora.model_copy(update={"variant": "standard"})
        yield "lora.variant standard, which can be sharded", with_spec(question, lora=standard)
    if training.early_stopping is not None:
        yield "removing training.earlyStopping, which cannot be sharded", _with_training(question, early_stopping=None)
    limits = spec.resources
    if limits.offload not in ("auto", "all"):
        yield "resources.offload auto", with_spec(question, resources=limits.model_copy(update={"offload": "auto"}))
    if limits.pools or limits.capacity != "any":
        free = limits.model_copy(update={"pools": None, "capacity": "any"})
        yield "any pool and capacity in spec.resources", with_spec(question, resources=free)


def _with_training(question: Question, **changes: object) -> Question:
    return with_spec(question, training=question.spec.training.model_copy(update=changes))


def _other_gpus(question: Question) -> tuple[str, Candidate] | None:
    """Let the number of GPUs be another one."""
    limits = question.spec.resources
    if limits.gpus is None and limits.max_gpus is None:
        return None
    free = solved(with_spec(question, resources=limits.model_copy(update={"gpus": None, "max_gpus": None})))
    if free is None:
        return None
    name, gpus = ("gpus" if limits.gpus else "max_gpus"), free.layout.gpus
    found = solved(with_spec(question, resources=limits.model_copy(update={name: gpus})))
    return (f"resources.{'gpus' if limits.gpus else 'maxGpus'} {gpus}", found) if found else None


def _other_batch(question: Question) -> tuple[str, Candidate] | None:
    """Let GPUs be used that cannot share the batch: 24 of them fit what 16 do not, but 32 rows are no multiple of 24."""
    for method in _methods(question.spec):
        work = work_of(question, method)
        wanted, fixed = work.global_batch_size, work.batch_is_fixed
        counts = {
            count
            for pool in allowed(question.pools, question.spec)
            for count in gpu_counts(pool.spec, question.spec.resources)
            if batch_for(count, wanted=wanted, fixed=fixed) is None
        }
        for count in sorted(counts):
            batch = nearest_multiple(wanted, count)
            if found := solved(_with_training(question, global_batch_size=batch)):
                return f"training.globalBatchSize {batch}", found
    return None


def _shorter(question: Question) -> tuple[str, Candidate] | None:
    """Halve the sequence length until it fits; the model has no positions for more than its own."""
    asked = question.spec.training.sequence_length or question.preflight.sequence_length
    length = min(asked // 2, question.architecture.max_position_embeddings)
    while length >= SHORTEST_SEQUENCE:
        if found := solved(_at_length(question, length)):
            return f"training.sequenceLength {length}", found
        length //= 2
    return None


def _at_length(question: Question, length: int) -> Question:
    """Return the question with shorter rows, and with what preflight would count then."""
    found = question.preflight
    tokens = min(found.tokens, found.examples * length)
    as_full = found.packed_rows * found.sequence_length / length * tokens / max(1, found.tokens)
    half_full = 2 * tokens / length  # packing leaves no two rows that would fit into one
    shorter = found.model_copy(
        update={
            "sequence_length": length, "tokens_p99": min(found.tokens_p99, length), "tokens": tokens,
            "packed_rows": math.ceil(min(as_full, half_full)),
        }
    )  # fmt: skip
    return replace(_with_training(question, sequence_length=length), preflight=shorter)


def _more_nodes(question: Question) -> tuple[str, Candidate] | None:
    """Let one pool grow, within the limits of spec.resources: the one that needs least."""
    grown = replace(question, pools=[_grown(pool, MOST_NODES) for pool in question.pools])
    found = [one for method in _methods(question.spec) for one in search(grown, method).fitting]
    if not found:
        return None
    least = min(found, key=lambda one: (one.layout.gpus, one.weight))
    name, nodes = least.pool.metadata.name, least.layout.replicas
    pools = [_grown(pool, nodes) if pool.metadata.name == name else pool for pool in question.pools]
    planned = solved(replace(question, pools=pools))
    return (f"maxNodes {nodes} in pool {name}", planned) if planned else None


def _grown(pool: GPUPool, nodes: int) -> GPUPool:
    return pool.model_copy(update={"spec": pool.spec.model_copy(update={"max_nodes": nodes})})


def with_spec(question: Question, **changes: object) -> Question:
    """Return the question with other parts of the spec."""
    spec: FineTuneJobSpec = question.spec.model_copy(update=changes)
    return replace(question, spec=spec)
