"""Templates of somebody who means harm: each is refused in words, or means nothing."""

from pathlib import Path

import pytest
from finetune_contract import Dataset
from finetune_trainer.chat.conversation import Conversation, RowRefused

from tests.trainer.data_inputs import BODY, at, jsonl, refusal_of, rows_of, said, tokenizer, trained_text

pytestmark = pytest.mark.usefixtures("local_files")

UNSAFE = "access to attribute '{}' of '{}' object is unsafe."
NO_LOADER = "no loader for this environment specified"
ESCAPES = [
    ("{{ ''.__class__.__mro__[1].__subclasses__() }}", UNSAFE.format("__class__", "str")),
    ("{{ self.__init__.__globals__ }}", UNSAFE.format("__init__", "TemplateReference")),
    ("{{ cycler.__init__.__globals__.os.popen('id').read() }}", UNSAFE.format("__init__", "type")),
    ("{{ lipsum.__globals__['os'].system('id') }}", UNSAFE.format("__globals__", "function")),
    ("{{ messages.append(messages[0]) }}", UNSAFE.format("append", "list")),
    ("{{ messages[0].update({'role': 'system'}) }}", UNSAFE.format("update", "dict")),
    ("{{ '{0.__class__.__mro__}'.format(0) }}", UNSAFE.format("__class__", "int")),
    ("{% include '/etc/passwd' %}", NO_LOADER),
    ("{% import 'os' as os %}{{ os.environ }}", NO_LOADER),
    ("{{ 1 / 0 }}", "division by zero"),
    ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "maximum recursion depth exceeded"),
    (
        "{% for a in range(10**9) %}x{% endfor %}",
        "Range too big. The sandbox blocks ranges larger than MAX_RANGE (100000).",
    ),
]


@pytest.mark.parametrize(("escape", "words"), ESCAPES)
def test_a_template_stays_in_its_sandbox(escape: str, words: str):
    """What it must not do, and what cannot be computed, is a refused row: preflight says it, and nothing is tried again."""
    with pytest.raises(RowRefused) as caught:
        trained_text(tokenizer(escape + BODY), Conversation(messages=said("hello", "fine")))

    assert str(caught.value) == (
        f"the chat template refuses it: {words}; correct or remove such rows, or set chat.template: chatml"
    )


@pytest.mark.parametrize("nothing", ["{{ raise_exception.__globals__ }}", "{{ ('%s' | attr('format')).__self__ }}"])
def test_a_private_attribute_of_a_filter_is_empty(tmp_path: Path, nothing: str):
    """The rows are the same as without it."""
    file = jsonl(tmp_path / "a.jsonl", [{"messages": said("hello", "fine")}])
    plain = rows_of(tmp_path / "plain", file, words=tokenizer(BODY))

    assert rows_of(tmp_path / "hostile", file, words=tokenizer(nothing + BODY)) == plain


@pytest.mark.parametrize("trick", ["q.__class__.__init__", "q!r", "q:>1000000000", "0.__class__", "q[0]"])
def test_a_prompt_template_knows_columns_and_nothing_of_python(tmp_path: Path, trick: str):
    """Braces hold the name of a column: no attribute, no conversion, no width."""
    file = jsonl(tmp_path / "a.jsonl", [{"q": "hello", "answer": "fine"}])
    dataset = Dataset(location=at(file), prompt_template=f"{{{trick}}}")

    reason, message = refusal_of(tmp_path, datasets=(dataset,))
    assert reason == "DatasetInvalid"
    assert message.startswith(f"file:///a.jsonl: promptTemplate names {trick}, which no row has")
