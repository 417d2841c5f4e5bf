"""Rules between the fields of one struct, by struct. crd.py puts them into the schema, validation.py runs them offline.

A rule of a single value stands at its type in spec.py and pools.py.
"""

import re
from collections.abc import Callable
from typing import Any

from finetune_operator.api.cel import Rule, default, untouched
from finetune_operator.api.evaluation_rules import ZERO, is_zero
from finetune_operator.api.locations import REMOTE
from finetune_operator.api.spec import LoraSpec

COMMIT = "^[0-9a-f]{40}$"


def needs_secret(uri: str) -> bool:
    """Say whether a place asks who is there; claims and files do not."""
    return uri.startswith(tuple(f"{scheme}://" for scheme in REMOTE))


def only_remote(credentials: str, uri: str, holds: Callable[[Any], bool]) -> Rule:
    """Return the rule that credentials stand only beside a URI that can use them."""
    return Rule(
        cel=f"!has(self.{credentials}) || !has(self.{uri}) || self.{uri}.matches('^({'|'.join(REMOTE)})://')",
        message=f"{credentials} apply to hf://, s3://, gs://, az:// and oci:// only: remove them",
        holds=holds,
        field=credentials,
    )


MODEL = (
    Rule(
        cel="!has(self.revision) || self.source.startsWith('hf://')",
        message="revision applies to hf:// only: remove it, or use a model from the hub",
        holds=lambda model: model.revision is None or model.source.startswith("hf://"),
        field="revision",
    ),
    Rule(
        cel=f"!self.trustRemoteCode || (has(self.revision) && self.revision.matches('{COMMIT}'))",
        message="trustRemoteCode requires a model on the hub (hf://) and revision to be a full commit id of 40 hexadecimal digits,"
        " so that the code cannot change",
        holds=lambda model: not model.trust_remote_code or bool(re.search(COMMIT, model.revision or "")),
        field="trustRemoteCode",
    ),
    only_remote("credentials", "source", lambda m: m.credentials is None or needs_secret(m.source)),
)

SHAPE = ("rank", "alpha", "variant", "targets", "modules_to_save", "experts")
"""What an initial adapter brings with it, beside its dropout."""

LORA = (
    Rule(
        cel="self.targets != 'custom' || has(self.targetModules)",
        message="targets custom requires targetModules: list the modules, such as q_proj and v_proj",
        holds=lambda lora: lora.targets != "custom" or lora.target_modules is not None,
        field="targetModules",
    ),
    Rule(
        cel="self.targets == 'custom' || !has(self.targetModules)",
        message="targetModules is used with targets custom only: set targets to custom, or remove targetModules",
        holds=lambda lora: lora.targets == "custom" or lora.target_modules is None,
        field="targetModules",
    ),
    Rule(
        cel="!has(self.targetModules) || !self.targetModules.exists(m, m.matches('(^|[.])(router|gate)$'))",
        message="the router of a mixture-of-experts model cannot be adapted: remove router and gate",
        holds=lambda lora: not any(re.search(r"(^|[.])(router|gate)$", m) for m in lora.target_modules or ()),
        field="targetModules",
    ),
    Rule(
        cel="!has(self.targetModules) || !has(self.modulesToSave)"
        " || !self.modulesToSave.exists(m, m in self.targetModules)",
        message="a module is also in targetModules: a module gets an adapter or is trained in full, not both",
        holds=lambda lora: not set(lora.target_modules or ()) & set(lora.modules_to_save or ()),
        field="modulesToSave",
    ),
    Rule(
        cel="!self.experts || self.targets == 'all-linear'",
        message="experts requires targets all-linear: set targets to all-linear, or experts to false",
        holds=lambda lora: not lora.experts or lora.targets == "all-linear",
        field="experts",
    ),
    Rule(
        cel="!self.experts || self.variant in ['standard', 'rslora']",
        message="variants dora and adalora cannot adapt experts: use standard or rslora, or set experts to false",
        holds=lambda lora: not lora.experts or lora.variant in ("standard", "rslora"),
        field="variant",
    ),
    Rule(
        cel=f"!self.experts || self.dropout.matches('{ZERO}')",
        message='adapters on experts cannot have dropout: set dropout to "0.0", or experts to false',
        holds=lambda lora: not lora.experts or is_zero(lora.dropout),
        field="dropout",
    ),
    Rule(
        cel=f"!has(self.initialAdapter) || ({untouched('self', LoraSpec, *SHAPE)} && self.dropout.matches('{ZERO}'))",
        message="initialAdapter sets the shape of the adapter: remove rank, alpha, dropout, variant, targets, modulesToSave and experts",
        holds=lambda lora: lora.initial_adapter is None or has_default_shape(lora),
        field="initialAdapter",
    ),
    Rule(
        cel="!has(self.initialAdapterCredentials) || has(self.initialAdapter)",
        message="initialAdapterCredentials require initialAdapter: set it, or remove the credentials",
        holds=lambda lora: lora.initial_adapter_credentials is None or lora.initial_adapter is not None,
        field="initialAdapterCredentials",
    ),
    only_remote(
        "initialAdapterCredentials",
        "initialAdapter",
        lambda lora: (
            lora.initial_adapter_credentials is None
            or lora.initial_adapter is None
            or needs_secret(lora.initial_adapter)
        ),
    ),
)


def has_default_shape(lora: LoraSpec) -> bool:
    """Say whether nothing of the adapter's shape was chosen (a rank of 16 cannot be told from none)."""
    return is_zero(lora.dropout) and all(getattr(lora, field) == default(LoraSpec, field) for field in SHAPE)


TRAINING = (
    Rule(
        cel="!has(self.epochs) || !has(self.maxSteps)",
        message="epochs and maxSteps are mutually exclusive: remove one of them",
        holds=lambda training: training.epochs is None or training.max_steps is None,
        field="maxSteps",
    ),
)

RESOURCES = (
    Rule(
        cel="!has(self.gpus) || !has(self.maxGpus) || self.gpus <= self.maxGpus",
        message="gpus exceeds maxGpus: lower gpus, or remove one of them",
        holds=lambda wanted: wanted.gpus is None or wanted.max_gpus is None or wanted.gpus <= wanted.max_gpus,
        field="gpus",
    ),
)

OUTPUT = (only_remote("credentials", "destination", lambda o: o.credentials is None or needs_secret(o.destination)),)

CHECKPOINT = (
    Rule(
        cel="!has(self.credentials) || has(self.destination)",
        message="credentials require destination: set it, or remove the credentials (the default folder uses the output's)",
        holds=lambda checkpoint: checkpoint.credentials is None or checkpoint.destination is not None,
        field="credentials",
    ),
    only_remote(
        "credentials",
        "destination",
        lambda c: c.credentials is None or c.destination is None or needs_secret(c.destination),
    ),
)

TOLERATION = (
    Rule(
        cel="self.operator == 'Equal' || self.value == ''",
        message="operator Exists takes no value: remove value, or use operator Equal",
        holds=lambda toleration: toleration.operator == "Equal" or not toleration.value,
        field="value",
    ),
    Rule(
        cel="self.operator == 'Exists' || self.key != ''",
        message="operator Equal requires a key: set key, or use operator Exists",
        holds=lambda toleration: toleration.operator == "Exists" or bool(toleration.key),
        field="key",
    ),
)

POOL = (
    Rule(
        cel="self.pod.resources.all(other, other.key != self.resourceName)",
        message="resourceName must not be named here: the planner decides how many of it a Pod requests. Remove it from pod.resources",
        holds=lambda pool: all(other.key != pool.resource_name for other in pool.pod.resources),
        field="pod.resources",
    ),
    Rule(
        cel="!has(self.pod.podGroup) || has(self.pod.schedulerName)",
        message="podGroup requires schedulerName: set it to the scheduler that reads the PodGroups",
        holds=lambda pool: pool.pod.pod_group is None or pool.pod.scheduler_name is not None,
        field="pod.podGroup",
    ),
)
