"""How YAML becomes plain values: numbers remember how they were written, and aliases may not unfold without end. Used by manifest_file."""

from typing import Any

from ruamel.yaml import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.constructor import ConstructorError, SafeConstructor
from ruamel.yaml.error import YAMLError

MOST_VALUES = 1_000_000
"""Of a document with its aliases unfolded: ten lines of aliases of aliases stand for more values than any memory holds."""


class KeyWrittenTwice(YAMLError):  # type: ignore[misc]  # ruamel has no types
    """A mapping has a key twice."""

    def __init__(self, key: object, first: int, second: int) -> None:
        where = f"twice in line {first}" if first == second else f"in line {first} and again in line {second}"
        super().__init__(f"{key} is written {where}: keep one of them")


class WrittenNumber(float):
    """A number together with the way it was written: 2e-4 would otherwise be reported as 0.0002."""

    text: str


class WrittenInteger(int):
    """The same for a whole number: a commit id of digits would otherwise lose the zero that it begins with."""

    text: str


class PlainConstructor(SafeConstructor):  # type: ignore[misc]  # ruamel has no types
    """Builds plain values; numbers remember how they were written."""

    def construct_document(self, node: Node) -> Any:
        """Return the document. Raises ConstructorError for one that is too large with its aliases unfolded."""
        if (values := unfolded(node, {})) > MOST_VALUES:
            problem = f"its aliases stand for {values:,} values, and at most {MOST_VALUES:,} are read"
            raise ConstructorError(None, None, problem, node.start_mark)
        return super().construct_document(node)

    def check_mapping_key(self, node: Node, key_node: Node, mapping: Any, key: Any, _: Any) -> bool:
        """Tell that a key is new in its mapping. Raises KeyWrittenTwice, for the last one would silently win."""
        if key in mapping:
            first = next(each for each, _ in node.value if getattr(each, "value", None) == key_node.value)
            raise KeyWrittenTwice(key, first.start_mark.line + 1, key_node.start_mark.line + 1)
        return True

    def construct_yaml_float(self, node: ScalarNode) -> WrittenNumber:
        """Return the number of a scalar."""
        number = WrittenNumber(super().construct_yaml_float(node))
        number.text = node.value
        return number

    def construct_yaml_int(self, node: ScalarNode) -> WrittenInteger:
        """Return the whole number of a scalar."""
        number = WrittenInteger(super().construct_yaml_int(node))
        number.text = node.value
        return number


PlainConstructor.add_constructor("tag:yaml.org,2002:float", PlainConstructor.construct_yaml_float)
PlainConstructor.add_constructor("tag:yaml.org,2002:int", PlainConstructor.construct_yaml_int)


def unfolded(node: Node, known: dict[int, int]) -> int:
    """Count the values below a node, as often as aliases name them. Raises ConstructorError for a node that holds itself."""
    if isinstance(node, ScalarNode):
        return 1
    if id(node) in known:
        if not known[id(node)]:
            raise ConstructorError(None, None, "an alias stands inside of what it names", node.start_mark)
        return known[id(node)]
    known[id(node)] = 0
    known[id(node)] = 1 + sum(unfolded(part, known) for part in _parts(node))
    return known[id(node)]


def _parts(node: Node) -> list[Node]:
    if isinstance(node, MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, SequenceNode) else []
