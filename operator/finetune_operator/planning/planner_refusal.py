"""Say why nothing fits: the need per term against what there is, and the nearest things that would. Called by planner.

Every remedy named here was planned before it is named.
"""

import math
from collections.abc import Iterator
from dataclasses import replace

from finetune_operator.api.defaults import Method
from finetune_operator.api.pools import GPUPool
from finetune_operator.api.spec import FineTuneJobSpec
from finetune_operator.planning.layouts import short_name
from finetune_operator.planning.planner_candidate import Candidate, Refused, best
from finetune_operator.planning.planner_report import terms_gib
from finetune_operator.planning.planner_search import Findings, Question, allowed, search

SHORTEST_SEQUENCE = 256
MOST_NODES = 64
MOST_REMEDIES = 4
HOPELESS = "; nothing near it fits either: use a smaller model, or a pool with more memory"


def refusal(question: Question, findings: Findings) -> str:
    """Return the message of DoesNotFit."""
    pools = allowed(question.pools, question.spec)
    if not pools:
        return _no_pool(question)
    if not findings.refused:
        return f"{_too_few_gpus(question, pools)}{_remedies(question)}"
    nearest = min(findings.refused, key=lambda one: (one.excess, one.gpus))
    return f"{_need(nearest)}{_remedies(question, hopeless=HOPELESS if math.isfinite(nearest.excess) else '')}"


def _no_pool(question: Question) -> str:
    resources = question.spec.resources
    asked = [f"pools {', '.join(resources.pools)}"] if resources.pools else []
    asked += [f"capacity {resources.capacity}"] if resources.capacity != "any" else []
    names = ", ".join(f"{pool.metadata.name} ({pool.spec.capacity})" for pool in question.pools) or "none"
    return f"no GPUPool matches spec.resources ({'; '.join(asked) or 'no limits'}); there are: {names}"


def _too_few_gpus(question: Question, pools: tuple[GPUPool, ...]) -> str:
    most = max(pool.spec.gpus_per_node * pool.spec.max_nodes for pool in pools)
    asked = question.spec.resources.gpus
    wanted = f"spec.resources.gpus asks for {asked} GPUs" if asked else "the job needs a GPU"
    return f"{wanted}, the largest pool has {most}"


def _need(nearest: Refused) -> str:
    name = short_name(nearest.pool.spec.gpu_type)
    if nearest.memory is None:
        return f"{nearest.summary}: {nearest.reason}"
    terms = sorted(terms_gib(nearest.memory).items(), key=lambda pair: -pair[1])
    parts = ", ".join(f"{term} {gib:.1f}" for term, gib in terms if gib >= 0.05)
    host = nearest.reason.partition("; ")[2]
    return (
        f"{nearest.summary} needs {nearest.memory.request_gib:.1f} GiB per GPU with its margin, {name} has "
        f"{nearest.usable_gib:.1f} (GiB: {parts})" + (f"; it {host}" if host else "")
    )


def _remedies(question: Question, hopeless: str = "") -> str:
    texts = [f"{text} ({one.summary}, ${one.usd:.2f})" for text, one in _fitting(question)]
    if not texts:
        return hopeless
    return "; would fit: " + "; ".join(texts[:MOST_REMEDIES])


def _fitting(question: Question) -> Iterator[tuple[str, Candidate]]:
    for text, changed, method in _changes(question):
        if found := best(search(changed, method).fitting, changed.spec):
            yield text, found
    if shorter := _shorter(question):
        yield shorter
    if more := _more_nodes(question):
        yield more


def _changes(question: Question) -> Iterator[tuple[str, Question, Method]]:
    spec = question.spec
    asked: Method = "qlora" if spec.method == "auto" else spec.method
    others: dict[Method, tuple[Method, ...]] = {"full": ("lora", "qlora"), "lora": ("qlora",), "qlora": ()}
    for method in others[asked]:
        yield f"method {method}", question, method
    if asked == "full" and spec.training.optimizer in ("auto", "adamw"):
        eight_bit = spec.training.model_copy(update={"optimizer": "adamw-8bit"})
        yield "training.optimizer adamw-8bit", with_spec(question, training=eight_bit), asked
    if (
        spec.training.global_batch_size is not None
        and spec.training.global_batch_size & (-spec.training.global_batch_size) < 8
    ):
        nearest = max(8, round(spec.training.global_batch_size / 8) * 8)
        batch = spec.training.model_copy(update={"global_batch_size": nearest})
        yield f"training.globalBatchSize {nearest}", with_spec(question, training=batch), asked
    if spec.resources.gpus or spec.resources.max_gpus or spec.resources.pools or spec.resources.capacity != "any":
        free = type(spec.resources)(optimize_for=spec.resources.optimize_for)
        yield "no limits in spec.resources", with_spec(question, resources=free), asked


def _shorter(question: Question) -> tuple[str, Candidate] | None:
    """Halve the sequence length until it fits."""
    asked: Method = "qlora" if question.spec.method == "auto" else question.spec.method
    length = (question.spec.training.sequence_length or question.preflight.sequence_length) // 2
    while length >= SHORTEST_SEQUENCE:
        training = question.spec.training.model_copy(update={"sequence_length": length})
        changed = with_spec(question, training=training)
        if found := best(search(changed, asked).fitting, changed.spec):
            return f"training.sequenceLength {length}", found
        length //= 2
    return None


def _more_nodes(question: Question) -> tuple[str, Candidate] | None:
    """Let every pool grow, within the limits of spec.resources."""
    asked: Method = "qlora" if question.spec.method == "auto" else question.spec.method
    pools = [_grown(pool) for pool in question.pools]
    found = search(replace(question, pools=pools), asked).fitting
    if not found:
        return None
    least = min(found, key=lambda one: (one.layout.gpus, one.weight))
    return f"maxNodes {least.layout.replicas} in pool {least.pool.metadata.name}", least


def _grown(pool: GPUPool) -> GPUPool:
    return pool.model_copy(update={"spec": pool.spec.model_copy(update={"max_nodes": MOST_NODES})})


def with_spec(question: Question, **changes: object) -> Question:
    """Return the question with other parts of the spec."""
    spec: FineTuneJobSpec = question.spec.model_copy(update=changes)
    return replace(question, spec=spec)
