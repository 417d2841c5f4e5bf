"""The parts of Kubernetes object metadata and conditions that we read and write."""

from typing import Annotated, Literal

from pydantic import StringConstraints

from finetune_operator.api.fields import Count, Message, ShortText, StatusModel, Time, items_by


class Condition(StatusModel):
    """One observation about an object."""

    type: Annotated[str, StringConstraints(max_length=64)]
    """CamelCase name of the condition."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    observed_generation: Count = 0
    """Generation of the spec that it judges."""
    last_transition_time: Time
    """When status changed last."""
    reason: Annotated[str, StringConstraints(max_length=64)]
    """CamelCase reason, part of the API."""
    message: Message = ""
    """A sentence that says what, how much and what to do."""


Conditions = Annotated[
    list[Condition],
    items_by("type", most=16),
]


class Metadata(StatusModel):
    """The part of an object's metadata that the operator reads."""

    name: ShortText
    namespace: ShortText = ""
    uid: ShortText
    generation: Count = 0
    resource_version: ShortText = ""
    creation_timestamp: ShortText = ""
    deletion_timestamp: ShortText | None = None
