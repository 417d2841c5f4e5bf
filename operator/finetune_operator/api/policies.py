"""FineTunePolicy: what the jobs of a namespace may do and spend. Written by the platform team, one per namespace."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from finetune_operator.api.cel import Checked, matching
from finetune_operator.api.fields import (
    UNIQUE,
    Count,
    Decimal,
    Model,
    Name,
    ShortText,
    StatusModel,
    between,
    items,
    items_by,
)
from finetune_operator.api.meta import Metadata
from finetune_operator.api.pool_pod import PodAnnotation, PodLabel
from finetune_operator.api.values import GpuTypeName, Money

POLICY_NAME = "default"

MODEL_PATTERN = matching(
    "^[A-Za-z0-9._*-]+/[A-Za-z0-9._*-]+$",
    "must be ORG/NAME of a hub model, in which * stands for any characters, such as Qwen/*",
)
PREFIX = matching(
    "^(hf|s3|gs|az|oci|pvc|https?|file)://",
    "must start with hf://, s3://, gs://, az://, oci://, pvc://, https://, http:// or file://, such as s3://team-a/",
)

SECRET_PATTERN = matching(
    "^[a-z0-9*]([a-z0-9.*-]*[a-z0-9*])?$",
    "must be the name of a Secret, in which * stands for any characters, such as finetune-*",
)

ModelPattern = Annotated[str, StringConstraints(min_length=1, max_length=256), Checked(MODEL_PATTERN)]
SecretPattern = Annotated[str, StringConstraints(min_length=1, max_length=253), Checked(SECRET_PATTERN)]
Prefix = Annotated[str, StringConstraints(min_length=1, max_length=1024), Checked(PREFIX)]


class PolicyLimits(Model):
    """The most that jobs may have. Absent: no limit."""

    gpus_per_job: Annotated[int, between(0, 4096)] | None = None
    """GPUs of one job. 0 allows no job to run."""
    gpus: Annotated[int, between(0, 100_000)] | None = None
    """GPUs of all running jobs together. Further jobs wait."""
    concurrent_jobs: Annotated[int, between(0, 10_000)] | None = None
    """Jobs that run at the same time. Further jobs wait."""
    cost_per_job_usd: Money | None = None
    """Cost of one job in US dollars: a decimal in quotes. A plan that is estimated higher is refused, and a running job is suspended
    when it is reached."""
    cost_per_month_usd: Money | None = None
    """Cost of all jobs in a calendar month (UTC) in US dollars: a decimal in quotes. When it is spent, running jobs are suspended and
    others wait for the next month."""
    hours_per_job: Annotated[int, between(1, 87_600)] | None = None
    """Running time of one job in hours. It is suspended when they are over."""


class PolicyAllow(Model):
    """What jobs may use. Absent: anything."""

    pools: Annotated[list[Name], items("set", least=1, most=32), UNIQUE] | None = None
    """GPUPools."""
    gpu_types: Annotated[list[GpuTypeName], items("set", least=1, most=32), UNIQUE] | None = None
    """GPU types, by their catalogue name."""
    methods: Annotated[list[Literal["lora", "qlora", "full"]], items("set", least=1, most=3), UNIQUE] | None = None
    """Training methods. method auto chooses among them."""
    models: Annotated[list[ModelPattern], items("set", least=1, most=64), UNIQUE] | None = None
    """Hub models as ORG/NAME, in which * stands for any characters. Models elsewhere must match sources."""
    sources: Annotated[list[Prefix], items("set", least=1, most=64), UNIQUE] | None = None
    """Where models, data, adapters and chat templates may be read from, as prefixes of URIs. Hub models that models allows need
    none."""
    destinations: Annotated[list[Prefix], items("set", least=1, most=64), UNIQUE] | None = None
    """Where results and checkpoints may be written to, and the judges and trackers that may be told of them, as prefixes of URIs."""
    secrets: Annotated[list[SecretPattern], items("set", least=1, most=64), UNIQUE] | None = None
    """Secrets of the namespace that jobs may name, in which * stands for any characters."""
    trust_remote_code: bool = True
    """Whether jobs may run Python code that comes with a model."""


class PolicyRequire(Model):
    """What every job must say."""

    pinned_revision: bool = False
    """Hub models must have a revision that is a full commit id."""
    budget: bool = False
    """Jobs must set runPolicy.budget."""
    queue: bool = False
    """Jobs must have a queue: their own queueName, or defaults.queueName."""


class PolicyDefaults(Model):
    """What jobs get that do not say it themselves."""

    priority_class_name: Name | None = None
    """PriorityClass of trainer Pods."""
    queue_name: Name | None = None
    """LocalQueue of Kueue."""
    capacity: Literal["any", "spot", "on-demand"] | None = None
    """Capacity for jobs whose resources.capacity is any."""
    labels: Annotated[list[PodLabel], items_by("key", most=16), UNIQUE] = []
    """Labels of all Pods, such as a cost centre. A job's own label of the same key wins."""
    annotations: Annotated[list[PodAnnotation], items_by("key", most=16), UNIQUE] = []
    """Annotations of all Pods. A job's own annotation of the same key wins."""


class FineTunePolicySpec(Model):
    """What the jobs of the namespace may do."""

    contact: ShortText = ""
    """Who can change this policy, such as #ml-platform. Every refusal says it."""
    limits: PolicyLimits = PolicyLimits()
    """The most that jobs may have."""
    allow: PolicyAllow = PolicyAllow()
    """What jobs may use."""
    require: PolicyRequire = PolicyRequire()
    """What every job must say."""
    defaults: PolicyDefaults = PolicyDefaults()
    """What jobs get that do not say it themselves."""


class LedgerEntry(StatusModel):
    """What one job has cost in the month."""

    uid: ShortText
    """The job's metadata.uid."""
    job: ShortText
    """Name of the job."""
    cost_usd: Decimal
    """Cost in this month, in US dollars."""
    earlier_usd: Decimal = "0.00"
    """Cost in earlier months, in US dollars."""


class FineTunePolicyStatus(StatusModel):
    """What the operator observed."""

    observed_generation: Count = 0
    """Generation of the spec that this status describes."""
    gpus_in_use: Count = 0
    """GPUs of the running jobs."""
    running_jobs: Count = 0
    """Jobs that run."""
    month: Annotated[str, StringConstraints(max_length=7)] = ""
    """Calendar month (UTC) of the ledger, such as 2026-01."""
    spent_usd: Decimal = "0.00"
    """Cost of all jobs in this month, deleted ones included, in US dollars."""
    jobs: Annotated[list[LedgerEntry], items_by("uid", most=1000)] = []
    """The ledger of the month. Jobs that were deleted stay until the month ends."""
    closed_usd: Decimal = "0.00"
    """Cost in this month of deleted jobs that are no longer listed, in US dollars."""


class FineTunePolicy(StatusModel):
    """The whole resource, parsed at the door."""

    metadata: Metadata
    spec: FineTunePolicySpec
    status: FineTunePolicyStatus = Field(default_factory=FineTunePolicyStatus)

    @property
    def owner(self) -> str:
        """Say whose rule it is and who can change it."""
        whom = self.spec.contact or "your platform team"
        return f"FineTunePolicy {self.metadata.name} of namespace {self.metadata.namespace}, which {whom} can change"
