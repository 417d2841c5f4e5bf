"""status.resolved: the spec when every choice is made. Filled in by planning.defaults and the planner, pinned in status.

Nothing that the planner decides is `auto` here, and nothing that has a default is absent: who reads it fills in nothing.
What may be absent all the same is said at its field. Some fields stay as the user wrote them, `auto` included, because the
Pods decide by what they find (chat.template, datasets[].format), or because they limit the planner (resources).
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from finetune_operator.api.data import ChatSpec, DatasetSpec
from finetune_operator.api.evaluation import EvaluationSpec
from finetune_operator.api.fields import StatusModel
from finetune_operator.api.merging import MergeOfSpec
from finetune_operator.api.spec import (
    CheckpointSpec,
    FineTuneJobSpec,
    LoraSpec,
    ModelSpec,
    OutputSpec,
    PodMetadata,
    ResourcesSpec,
    RunPolicySpec,
    TrainingSpec,
)
from finetune_operator.api.trackers import TrackerSpec

Method = Literal["lora", "qlora", "full"]


class ResolvedLora(LoraSpec):
    """The adapter. Absent are target_modules unless targets is custom, modules_to_save and initial_adapter unless set."""

    alpha: int


class ResolvedTraining(TrainingSpec):
    """What is learned and how fast."""

    epochs: int
    """With max_steps: the passes that these steps begin."""
    max_steps: int | None = None
    """Absent where the run ends with its epochs."""
    learning_rate: str
    scheduler: Literal["cosine", "linear", "constant"]
    weight_decay: str
    global_batch_size: int
    sequence_length: int
    packing: Literal["always", "never"]
    precision: Literal["mixed", "bf16"]
    optimizer: Literal["adamw", "adamw-8bit", "paged-adamw-8bit"]
    neftune_alpha: str
    """"0": off."""


class ResolvedCheckpoint(CheckpointSpec):
    """The resumable state. Credentials are absent where the place needs none, or has the identity of the Pods."""

    destination: str


class ResolvedSpec(StatusModel):
    """One fine-tuning run, whole."""

    model: ModelSpec
    """Its revision is a commit, and absent outside a hub, which alone has revisions."""
    datasets: list[DatasetSpec]
    chat: ChatSpec
    objective: Literal["sft", "cpt"]
    method: Method
    lora: ResolvedLora | None = None
    """Absent for method full, which has no adapter."""
    merge_of: MergeOfSpec | None = None
    """Absent where an adapter or model is trained."""
    training: ResolvedTraining
    evaluation: EvaluationSpec
    """Source, metrics, gate and samples are absent unless set."""
    resources: ResourcesSpec
    output: OutputSpec
    checkpoint: ResolvedCheckpoint
    trackers: list[TrackerSpec] = []
    service_account_name: str | None = None
    """Absent: the namespace's default."""
    priority_class_name: str | None = None
    """Absent: the cluster's default."""
    queue_name: str | None = None
    """Absent: no queue."""
    managed_by: str = "finetune.dev/operator"
    pod_metadata: PodMetadata = PodMetadata()
    run_policy: RunPolicySpec
    plan_only: bool
    suspend: bool

    @model_validator(mode="before")
    @classmethod
    def without_idle_adapter(cls, data: Any) -> Any:  # whatever was recorded
        """Drop what older operators recorded for method full: the defaults of an adapter that there is not."""
        if isinstance(data, Mapping) and data.get("method") == "full":
            return {name: value for name, value in data.items() if name != "lora"}
        return data

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the spec's own schema: what another version has recorded is not for the API server to refuse."""
        FineTuneJobSpec.model_rebuild()
        return handler(FineTuneJobSpec.__pydantic_core_schema__)
