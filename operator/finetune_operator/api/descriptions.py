"""JSON schemas whose fields are described by the docstrings below them. Called by crd, for the CRDs and their reference.

pydantic can read those docstrings itself (`use_attribute_docstrings`), but does so at every import: 0.1 s for every
command, for texts that only the generator needs.
"""

import ast
import inspect
import textwrap
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

Schema = dict[str, Any]


def field_docstrings(kind: type[BaseModel]) -> dict[str, str]:
    """Return field name -> docstring of a model's own fields and of those that it inherits."""
    found: dict[str, str] = {}
    for each in reversed([base for base in kind.__mro__ if base is not BaseModel and issubclass(base, BaseModel)]):
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(each))).body
        assert isinstance(tree, ast.ClassDef)
        for field, text in zip(tree.body, tree.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and (doc := _text(text)):
                found[field.target.id] = doc
    return found


def _text(statement: ast.stmt) -> str:
    """Return the string that a statement consists of, empty for any other."""
    match statement:
        case ast.Expr(value=ast.Constant(value=str(text))):
            return inspect.cleandoc(text)
        case _:
            return ""


class _Described(GenerateJsonSchema):
    """Adds the docstrings to each struct as it is generated."""

    def model_schema(self, schema: Any) -> JsonSchemaValue:  # pydantic_core's ModelSchema
        found = super().model_schema(schema)
        kind: type[BaseModel] = schema["cls"]
        for name, text in field_docstrings(kind).items():
            if (info := kind.model_fields.get(name)) is not None:
                found["properties"][info.alias or name].setdefault("description", text)
        return found


def described_schema(kind: type[BaseModel]) -> Schema:
    """Return the JSON schema of a model, every field with its description."""
    return kind.model_json_schema(schema_generator=_Described)
