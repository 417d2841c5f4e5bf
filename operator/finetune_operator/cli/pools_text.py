"""Proposed GPUPools as YAML with comments. Called by `finetune pools discover`."""

import io
from collections.abc import Sequence
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from finetune_operator.api.group import API_VERSION, POOL_KIND
from finetune_operator.planning.pools.discovery import Proposal

SPEC_INDENT = 2

NO_TEXT_IN_YAML_1_1 = {"y", "yes", "n", "no", "on", "off", "true", "false", "null", "~", ""}
"""What kubectl reads as a boolean or as nothing, in any case of letters."""


def pools_text(proposals: Sequence[Proposal]) -> str:
    """Return the manifests as one YAML text. A field that has to be filled in stands there as a comment."""
    yaml = YAML()
    yaml.width = 140
    yaml.indent(mapping=2, sequence=4, offset=2)
    texts = []
    for proposal in proposals:
        stream = io.StringIO()
        yaml.dump(_manifest(proposal), stream)
        texts.append(stream.getvalue() + _missing(proposal))
    return "---\n".join(texts)


def _manifest(proposal: Proposal) -> CommentedMap:
    spec = CommentedMap((key, _value(value)) for key, value in proposal.spec.items() if value != [])
    for field, note in proposal.notes.items():
        if field in spec:
            spec.yaml_set_comment_before_after_key(field, before=note, indent=SPEC_INDENT)
    return CommentedMap(apiVersion=API_VERSION, kind=POOL_KIND, metadata=_flow({"name": proposal.name}), spec=spec)


def _missing(proposal: Proposal) -> str:
    """Return a comment for each field that nodes cannot tell."""
    lines = (f"  # {field}: {note}\n" for field, note in proposal.notes.items() if field not in proposal.spec)
    return "".join(lines)


def _value(value: Any) -> Any:
    """Decimals in quotes, as the API wants them; small maps and lists of them on one line."""
    if isinstance(value, list):
        return CommentedSeq(_flow(item) for item in value)
    if isinstance(value, dict):
        return _flow(value)
    return DoubleQuotedScalarString(value) if isinstance(value, str) and value.replace(".", "").isdigit() else value


def _flow(value: dict[str, Any]) -> CommentedMap:
    result = CommentedMap((key, _quoted(item)) for key, item in value.items())
    result.fa.set_flow_style()
    return result


def _quoted(value: Any) -> Any:
    """A label's value such as true or 1 is text."""
    ambiguous = isinstance(value, str) and (value.lower() in NO_TEXT_IN_YAML_1_1 or value.replace(".", "").isdigit())
    return DoubleQuotedScalarString(value) if ambiguous else value
