"""Rules about one field as one rule, for crd.py: the API server evaluates every rule of a spec with each write of a status.

Most of what that costs is what any rule costs, however short it is, and each field that it reads. The message is that of the first rule
that is broken.
"""

from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
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
    both = {"rule": " && ".join(guarded(rules)), "message": ONE_OF_SEVERAL}
    return [rules[0] | both | {"messageExpression": said}]


def guarded(rules: list[Schema]) -> Iterator[str]:
    """Yield what rules ask for in CEL; a first alternative that several of them have, one after the other, is asked for once."""
    for guard, below in groupby((halves(rule["rule"]) for rule in rules), itemgetter(0)):
        asked = " && ".join(f"({rest})" for _, rest in below)
        yield f"({guard} || ({asked}))" if guard else asked


def halves(cel: str) -> tuple[str, str]:
    """Return the first alternative of a rule and the others; none first where the rule cannot be cut by its text alone."""
    first, _, others = cel.partition(" || ")
    is_whole = first.count("(") == first.count(")") and first.count("'") % 2 == 0
    return (first, others) if others and is_whole else ("", cel)
