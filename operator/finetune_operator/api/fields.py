"""The field types of the API. Structural schemas know no floats and no unions; strings and lists are always bounded."""

from typing import Annotated, Any, Literal, TypeVar, cast

from finetune_contract.wire import camel
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from finetune_operator.api.cel import Checked, matching

T = TypeVar("T")


class Model(BaseModel):
    """Base of every API struct: camelCase outside, snake_case inside, immutable, no unknown fields."""

    model_config = ConfigDict(
        alias_generator=camel, validate_by_name=True, validate_by_alias=True, serialize_by_alias=True,
        frozen=True, extra="forbid", defer_build=True,
    )  # fmt: skip


class StatusModel(Model):
    """Base of status structs: a newer operator may have written fields that this one does not know."""

    model_config = ConfigDict(extra="ignore")


def between(least: int, most: int) -> FieldInfo:
    """Return the bounds of a whole number."""
    return cast("FieldInfo", Field(ge=least, le=most, json_schema_extra={"format": "int64"}))


def items(kind: Literal["set", "atomic"], *, least: int = 0, most: int) -> FieldInfo:
    """Return the bounds of a list, and how two writers' lists merge."""
    return cast(
        "FieldInfo", Field(min_length=least, max_length=most, json_schema_extra={"x-kubernetes-list-type": kind})
    )


def items_by(*keys: str, most: int) -> FieldInfo:
    """Return the bounds of a list whose items are told apart by `keys`."""
    extra: dict[str, Any] = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}
    return cast("FieldInfo", Field(max_length=most, json_schema_extra=extra))


def unique(values: list[T]) -> list[T]:
    """Return the list of a set or map. Raises pydantic's error when two items are the same (or have the same key)."""
    names = [getattr(value, "key", value) for value in values]
    for name in names:
        if names.count(name) > 1:
            raise PydanticCustomError("rule", "contains {name} twice: remove one of them", {"name": name})
    return values


UNIQUE = AfterValidator(unique)

DECIMAL_PATTERN = r"^(0|[1-9][0-9]{0,11})(\.[0-9]{1,10})?$"
NUMBER_PATTERN = r"^[0-9]{1,12}(\.[0-9]{1,10})?([eE][+-]?[0-9]{1,2})?$"

Decimal = Annotated[str, StringConstraints(pattern=DECIMAL_PATTERN, max_length=24)]
"""A non-negative decimal in a string: money, fractions, sizes."""

Number = Annotated[str, StringConstraints(pattern=NUMBER_PATTERN, max_length=24)]
"""As Decimal, exponents allowed: "2e-4" is "0.0002"."""

SignedDecimal = Annotated[str, StringConstraints(pattern=r"^-?[0-9]{1,12}(\.[0-9]{1,10})?$", max_length=24)]
NAME = matching(
    "^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
    "must be a valid Kubernetes object name: lower-case letters, digits, - and ., such as team-a",
)
Name = Annotated[str, StringConstraints(max_length=253), Checked(NAME)]
"""A Kubernetes object name."""

Text = Annotated[str, StringConstraints(max_length=4096)]
ShortText = Annotated[str, StringConstraints(max_length=256)]
Message = Annotated[str, StringConstraints(max_length=32768)]
Digest = Annotated[str, StringConstraints(max_length=71)]
Time = Annotated[str, StringConstraints(max_length=32), Field(json_schema_extra={"format": "date-time"})]
Count = Annotated[int, Field(ge=0, le=9_007_199_254_740_991, json_schema_extra={"format": "int64"})]
"""A whole number that is not negative."""
