"""Digests of a spec: of what a run depends on, and of what preflight and plan rest on. Called by run_config, record and plan_facts."""

import hashlib
import json
from typing import Any

from finetune_operator.api.data import ChatSpec, DatasetSpec
from finetune_operator.api.evaluation import EvaluationSpec, JudgeSpec, LmEvalSpec, MetricSpec
from finetune_operator.api.fields import Model
from finetune_operator.api.merging import MergedAdapterSpec, MergeOfSpec
from finetune_operator.api.once import once_each
from finetune_operator.api.spec import FineTuneJobSpec, LoraSpec

CREDENTIALS = {"credentials", "initial_adapter_credentials", "template_credentials"}
"""A rotated Secret is the same run."""

NESTED: dict[str, type[Model]] = {"source": DatasetSpec, "judge": JudgeSpec, "lm_eval": LmEvalSpec}
"""Structs of a metric with credentials of their own."""

MEASURED = {
    "source": set(DatasetSpec.model_fields) - CREDENTIALS,
    "metrics": {
        "__all__": {
            name: set(nested.model_fields) - CREDENTIALS if (nested := NESTED.get(name)) else True
            for name in MetricSpec.model_fields
        }
    },
}

TRAINING_RELEVANT = {
    "model": {"source", "trust_remote_code"},
    "datasets": {"__all__": set(DatasetSpec.model_fields) - CREDENTIALS},
    "chat": set(ChatSpec.model_fields) - CREDENTIALS,
    "objective": True,
    "method": True,
    "lora": set(LoraSpec.model_fields) - CREDENTIALS,
    "merge_of": {
        name: {"__all__": set(MergedAdapterSpec.model_fields) - CREDENTIALS} if name == "adapters" else True
        for name in MergeOfSpec.model_fields
    },
    "training": True,
    "evaluation": {name: MEASURED.get(name, True) for name in EvaluationSpec.model_fields if name != "gate"},
}
"""What the weights depend on. The model's revision is part of the run digest in its resolved form."""

FREE_TO_CHANGE = {"suspend", "plan_only", "run_policy"}
"""What neither preflight nor plan rests on."""


def spec_digest(spec: FineTuneJobSpec) -> str:
    """Return the digest of the training-relevant part of the spec: equal digests train the same thing."""
    return _digest(spec, include=TRAINING_RELEVANT)


@once_each
def examined_digest(spec: FineTuneJobSpec) -> str:
    """Return the digest of all that preflight and plan rest on: when it changes, both start again."""
    return _digest(spec, exclude=FREE_TO_CHANGE)


def _digest(spec: FineTuneJobSpec, *, include: object = None, exclude: object = None) -> str:
    """Hash the canonical JSON. Defaults count as absent, so that a field added later does not change old digests."""
    data = spec.model_dump(mode="json", include=include, exclude=exclude, exclude_defaults=True)  # type: ignore[arg-type]
    text = json.dumps(_pruned(data), sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def _pruned(data: dict[str, Any]) -> dict[str, Any]:
    """Drop structs of which nothing is left: they say as little as absent ones."""
    below = {name: _pruned(value) if isinstance(value, dict) else value for name, value in data.items()}
    return {name: value for name, value in below.items() if value != {}}
