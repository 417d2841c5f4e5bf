"""docs/api.md, written from the CRDs: every field with its type, default, bounds and description."""

import json
from collections.abc import Iterator

from finetune_operator.api.cel import VALIDATIONS
from finetune_operator.api.crd import TYPE_META
from finetune_operator.api.freeze import MUTABLE
from finetune_operator.api.group import API_VERSION, JOB_KIND, PLAN_KIND
from finetune_operator.api.structural import Schema
from finetune_operator.api.validation import SPEC_BYTES

INTRODUCTION = f"""# API reference

The kinds of `{API_VERSION}`. A {JOB_KIND} requires only `model`, `datasets` and `output`.
`kubectl explain ftj.spec` prints the same descriptions.

- Decimals (money, fractions, learning rates) are strings: write `learningRate: "2e-4"`, with the quotes. Without
  them, kubectl reports `must be of type string: "number"`; `finetune plan -f job.yaml` says which quotes are missing.
- Once an attempt has started, only these fields can be changed:
  {", ".join(f"`spec.{path}`" for path in MUTABLE)}.
- Every value has bounds. The whole spec may be at most {SPEC_BYTES} bytes of JSON; the operator refuses a larger one
  with reason InvalidSpec.
- A location is `hf://ORG/NAME`, `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX`, `az://ACCOUNT/CONTAINER/PREFIX`,
  `oci://HOST/REPOSITORY:TAG` (a registry; results, models and data, not checkpoints),
  `pvc://CLAIM/PATH` (a PersistentVolumeClaim in the job's namespace) or `file:///PATH` (local cluster only). It cannot
  contain `..`, `//`, credentials, a query or spaces.
"""


def reference(crds: tuple[Schema, ...]) -> str:
    """Return the text of docs/api.md."""
    return "\n".join([INTRODUCTION, *(line for crd in crds for line in _kind(crd))]) + "\n"


def _kind(crd: Schema) -> Iterator[str]:
    names, version = crd["spec"]["names"], crd["spec"]["versions"][0]
    root = version["schema"]["openAPIV3Schema"]
    short = ", ".join(f"`{name}`" for name in (names["plural"], names["singular"], *names.get("shortNames", ())))
    yield f"## {names['kind']}\n\n{root['description']}\n\n{crd['spec']['scope']}. kubectl accepts {short}.\n"
    columns = [
        f"{c['name'].upper()}{' (wide)' if c.get('priority') else ''}" for c in version["additionalPrinterColumns"]
    ]
    yield f"`kubectl get {names['plural']}` shows {', '.join(columns)}.\n"
    for name, field in root["properties"].items():
        if name not in TYPE_META:
            yield from _part(field, f"{names['kind']}.{name}")


def _part(field: Schema, path: str) -> Iterator[str]:
    """One table per struct; FineTunePlan.resolved is the spec again."""
    if path == f"{PLAN_KIND}.resolved":
        yield f"### {path}\n\n{field['description']} It has the fields of {JOB_KIND}.spec.\n"
        return
    yield from _struct(field, path)


def _column(column: Schema) -> str:
    return f"{column['name'].upper()}{' (wide)' if column.get('priority') else ''}"


def _struct(schema: Schema, path: str) -> Iterator[str]:
    """One table per struct, followed by those of its children."""
    yield f"### {path}\n\n{schema['description']}\n"
    yield "| field | type | description |\n|---|---|---|"
    required = schema.get("required", ())
    for name, field in schema["properties"].items():
        yield f"| `{name}` | {_type(field)}{', **required**' if name in required else ''} | {_cell(field)} |"
    refused = "".join(f"\n- {_sentence(rule)}" for rule in schema.get(VALIDATIONS, ()))
    yield f"\nError messages:\n{refused}\n" if refused else ""
    for name, field in schema["properties"].items():
        child = field.get("items", field)
        if "properties" in child:
            yield from _struct(child, f"{path}.{name}{'[]' if 'items' in field else ''}")


def _sentence(rule: Schema) -> str:
    return f"`{rule['fieldPath'].removeprefix('.')}`: {rule['message']}." if "fieldPath" in rule else rule["message"]


def _type(field: Schema) -> str:
    if "enum" in field:
        return " \\| ".join(f"`{value}`" for value in field["enum"])
    if "items" in field:
        return f"list of {_type(field['items'])}, {_range(field, 'Items')}"
    if field["type"] == "integer":
        return f"integer, {field['minimum']} to {field['maximum']}" if field["maximum"] < 2**53 - 1 else "integer"
    if field["type"] == "string" and "maxLength" in field:
        return f"string, {_range(field, 'Length')}"
    return str(field["type"])


def _range(field: Schema, what: str) -> str:
    least, most = field.get(f"min{what}", 0), field[f"max{what}"]
    return f"{least} to {most}" if least else f"at most {most}"


def _cell(field: Schema) -> str:
    """The description, what its value must be, and the default."""
    own = [rule["message"] for rule in field.get(VALIDATIONS, ()) if "properties" not in field]
    own = own if len(own) == 1 else []  # those of a location are told once, at the top
    default = field.get("default")
    shown = [] if default is None or isinstance(default, dict) else [f"Default: `{json.dumps(default)}`."]
    rules = [f"{rule[0].upper()}{rule[1:]}." for rule in own]
    return " ".join([field["description"], *rules, *shown]).replace("|", "\\|")
