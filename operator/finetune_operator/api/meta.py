"""The parts of Kubernetes object metadata and conditions that we read and write."""

from typing import Annotated, Literal

from pydantic import StringConstraints

from finetune_operator.api.fields import Count, Message, ShortText, StatusModel, Time, items_by


class Condition(StatusModel):
    """One aspect of the object's state."""

    type: Annotated[str, StringConstraints(max_length=64)]
    """Type of the condition, in CamelCase."""
    status: Literal["True", "False", "Unknown"]
    """Status of the condition."""
    observed_generation: Count | None = None
    """Generation of the spec that the condition describes. Absent where it is status.observedGeneration."""
    last_transition_time: Time
    """Time when status last changed."""
    reason: Annotated[str, StringConstraints(max_length=64)]
    """Reason for the status, in CamelCase. Reasons are part of the API."""
    message: Message = ""
    """Details for people: what happened, the figures and what to do."""


Conditions = Annotated[
    list[Condition],
    items_by("type", most=16),
]


class FieldManager(StatusModel):
    """A program that has written fields of the object."""

    manager: str = ""


class Metadata(StatusModel):
    """The part of an object's metadata that the operator reads."""

    name: ShortText
    namespace: ShortText = ""
    uid: ShortText
    generation: Count = 0
    resource_version: ShortText = ""
    creation_timestamp: ShortText = ""
    deletion_timestamp: ShortText | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    finalizers: list[str] = []
    managed_fields: list[FieldManager] = []
