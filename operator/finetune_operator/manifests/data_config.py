"""Places and data sets as the Pods are told of them. Called by run_config and measured."""

import finetune_contract as contract

from finetune_operator.api.data import ColumnsSpec, Credentials, DatasetSpec, InvalidRowsSpec, RolesSpec


def location(uri: str, credentials: Credentials | None) -> contract.Location:
    """Return a place and the Secret that opens it."""
    return contract.Location(uri=uri, secret=credentials.secret_name if credentials else "")


def dataset(entry: DatasetSpec) -> contract.Dataset:
    """Return one source of rows."""
    invalid = entry.invalid_rows or InvalidRowsSpec()
    return contract.Dataset(
        location=location(entry.source, entry.credentials),
        split=entry.split,
        config=entry.config or "",
        revision=entry.revision or "",
        format=entry.format,
        columns=columns(entry.columns or ColumnsSpec()),
        roles=roles(entry.roles or RolesSpec()),
        prompt_template=entry.prompt_template or "",
        class_names=tuple(entry.class_names or ()),
        invalid_rows=invalid.action,
        invalid_max_percent=invalid.max_percent,
        max_examples=entry.max_examples or 0,
        weight=float(entry.weight or 0),
    )


def columns(spec: ColumnsSpec) -> contract.Columns:
    """Return the column names by role."""
    return contract.Columns(**{role: name or "" for role, name in spec.model_dump(by_alias=False).items()})


def roles(spec: RolesSpec) -> dict[str, str]:
    """Return our role by the data's word for it."""
    return {word: role for role, words in spec.model_dump(by_alias=False).items() for word in words or ()}
