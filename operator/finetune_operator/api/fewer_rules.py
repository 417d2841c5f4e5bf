"""Rules about one field as one rule, for crd.py: the API server evaluates every rule of a spec with each write of a status.

Half of what that costs is what any rule costs, however short it is. The message is that of the first rule that is broken, as offline.
"""

from itertools import groupby
from typing import Any

from finetune_operator.api.cel import VALIDATIONS, quoted
from finetune_operator.api.structural import Schema

ONE_OF_SEVERAL = "breaks one of the rules that docs/api.md has"
"""Said if the API server does not get as far as the expression of a message."""


def with_fewer_rules(schema: Schema) -> Schema:
    """Return a schema in which the rules about one field are one."""
    out = dict(schema)
    if VALIDATIONS in out:
        out[VALIDATIONS] = fewer(out[VALIDATIONS])
    if "properties" in out:
        out["properties"] = {name: with_fewer_rules(sub) for name, sub in out["properties"].items()}
    if "items" in out:
        out["items"] = with_fewer_rules(out["items"])
    return out


def fewer(rules: list[Schema]) -> list[Schema]:
    """Return rules of one place with those about the same field made one; a rule that words its own message stays as it is."""
    places = list(dict.fromkeys(map(_place, rules)))
    ordered = sorted(rules, key=lambda rule: places.index(_place(rule)))
    return [one for _, about in groupby(ordered, _place) for one in together(list(about))]


def _place(rule: Schema) -> tuple[Any, ...]:
    return rule.get("fieldPath", ""), rule.get("messageExpression", "")


def together(rules: list[Schema]) -> list[Schema]:
    """Return several rules about the same field as one."""
    if len(rules) == 1:
        return rules
    *others, last = rules
    said = "".join(f"!({rule['rule']}) ? {quoted(rule['message'])} : " for rule in others) + quoted(last["message"])
    both = {"rule": " && ".join(f"({rule['rule']})" for rule in rules), "message": ONE_OF_SEVERAL}
    return [rules[0] | both | {"messageExpression": said}]
