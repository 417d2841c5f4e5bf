"""Columns as data sets name them: which are read, what is said of those that are not, and that advice works when followed."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from finetune_contract import Chat, Columns, Dataset

from tests.trainer.data_inputs import a_request, at, jsonl, prepared_rows, refusal_of, rows_of, said, tokenizer

pytestmark = pytest.mark.usefixtures("local_files")

PAIRS = [
    "prompt completion", "Prompt Completion", "instruction output", "question answer", "question response", "query response",
    "input output", "inputs targets", "input_text output_text", "user assistant", "problem solution", "prompt response",
]  # fmt: skip


@pytest.mark.parametrize("names", PAIRS)
def test_a_question_and_its_answer_are_known_under_their_common_names(tmp_path, names):
    """In any case, with or without underscores."""
    question, answer = names.split()

    assert rows_of(tmp_path, jsonl(tmp_path / "a.jsonl", [{question: "hello", answer: "fine"}])) == [
        ("<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\nfine<|im_end|>\n", "fine<|im_end|>")
    ]


READ = [
    ("Alpaca", {"instruction": "add", "input": "1 2", "output": "3"}, ["user\nadd\n\n1 2", "assistant\n3"]),
    ("Alpaca without input", {"instruction": "add", "input": "", "output": "3"}, ["user\nadd", "assistant\n3"]),
    ("Alpaca with history", {"instruction": "add", "output": "3", "history": [["red", "blue"]]},
     ["user\nred", "assistant\nblue", "user\nadd", "assistant\n3"]),
    ("Dolly", {"instruction": "tell", "context": "a dog", "response": "dog", "category": "qa"},
     ["user\ntell\n\na dog", "assistant\ndog"]),
    ("OpenOrca", {"id": "x", "system_prompt": "be kind", "question": "hello", "response": "fine"},
     ["system\nbe kind", "user\nhello", "assistant\nfine"]),
    ("Anthropic's system", {"system": [{"type": "text", "text": "be kind"}], "messages": said("hello", "fine")},
     ["system\nbe kind", "user\nhello", "assistant\nfine"]),
    ("Gemini", {"systemInstruction": {"parts": [{"text": "be kind"}]},
                "contents": [{"role": "user", "parts": [{"text": "hello"}]}, {"role": "model", "parts": [{"text": "fine"}]}]},
     ["system\nbe kind", "user\nhello", "assistant\nfine"]),
    ("firefly", {"conversation": [{"human": "hello", "assistant": "fine"}]}, ["user\nhello", "assistant\nfine"]),
    ("an answer as a message", {"prompt": said("hello"), "completion": {"role": "assistant", "content": "fine"}},
     ["user\nhello", "assistant\nfine"]),
    ("OpenPipe", {"input": {"messages": said("hello")}, "output": {"role": "assistant", "content": "fine"}},
     ["user\nhello", "assistant\nfine"]),
    ("API logs", {"request": {"model": "m", "messages": said("hello")},
                  "response": {"choices": [{"message": {"role": "assistant", "content": "fine"}}]}},
     ["user\nhello", "assistant\nfine"]),
    ("a struct of lists", {"conversations": {"from": ["human", "gpt"], "value": ["hello", "fine"]}},
     ["user\nhello", "assistant\nfine"]),
]  # fmt: skip


@pytest.mark.parametrize(("form", "record", "turns"), READ, ids=[form for form, _, _ in READ])
def test_well_known_forms_are_read_whole(tmp_path, form, record, turns):
    """Nothing that belongs to the question or the rules is left out; only the last answer is learned."""
    ((whole, learned),) = rows_of(tmp_path, jsonl(tmp_path / "a.jsonl", [record]))

    assert whole == "".join(f"<|im_start|>{turn}<|im_end|>\n" for turn in turns)
    assert learned == turns[-1].removeprefix("assistant\n") + "<|im_end|>"


def test_the_calls_of_xlam_are_learned_as_calls(tmp_path):
    """Its answers are the calls, as JSON text."""
    template = (
        "{{ tools }}{% for m in messages %}{{ m.content }}{% for c in m.tool_calls or [] %}"
        "CALL {{ c.function.name }} {{ c.function.arguments | tojson }}{% endfor %}<|im_end|>{% endfor %}"
    )
    record = {
        "query": "weather?",
        "answers": '[{"name": "look", "arguments": {"city": "Paris"}}]',
        "tools": '[{"name": "look"}]',
    }

    ((whole, _),) = rows_of(
        tmp_path, jsonl(tmp_path / "a.jsonl", [record]), words=tokenizer(template), chat=Chat(train_on="all")
    )

    assert whole.endswith('weather?<|im_end|>CALL look {"city": "Paris"}<|im_end|>')


def test_columns_are_joined_by_a_template(tmp_path):
    """The promptTemplate of the data set takes the place of one column."""
    file = jsonl(tmp_path / "a.jsonl", [{"context": "a dog", "question": "what?", "answer": "dog"}])
    joined = Dataset(location=at(file), prompt_template="{context}\nQ: {question}")
    unknown = Dataset(location=at(file), prompt_template="{text}")

    assert rows_of(tmp_path, datasets=(joined,))[0][0].startswith("<|im_start|>user\na dog\nQ: what?<|im_end|>")
    assert prepared_rows(a_request(datasets=(joined,)), tokenizer(), tmp_path / "work").warnings == ()
    assert refusal_of(tmp_path, datasets=(unknown,)) == (
        "DatasetInvalid",
        "file:///a.jsonl: promptTemplate names text, which no row has. Its columns are context, question, answer",
    )  # fmt: skip


def warned(folder, record, **changes):
    """The warnings about rows like this one."""
    file = jsonl(folder / "a.jsonl", [record])
    datasets = (Dataset(location=at(file), **changes),)
    found = prepared_rows(a_request(datasets=datasets), tokenizer(), folder / "work").warnings
    return [warning.replace(str(folder), "") for warning in found]


NAMED = [
    ({"messages": said("a", "b"), "chat_template_kwargs": {"enable_thinking": False}}, "chat_template_kwargs"),
    ({"question": "a", "choices": ["b", "c"], "answer": "b"}, "choices"),
    ({"instruction": "a", "output": "b", "corrected": "c"}, "corrected"),
    ({"messages": said("a", "b"), "images": ["x.png"]}, "images"),
    ({"messages": said("a", "b"), "loss_mask": [0, 0]}, "loss_mask"),
    ({"messages": said("a", "b"), "weight": 0.0}, "weight"),
    ({"messages": [{**said("a")[0], "images": ["x"]}, *said("", "b")[1:]]}, "messages[].images"),
    ({"messages": [{**said("a")[0], "name": "Bob"}, *said("", "b")[1:]]}, "messages[].name of role user"),
    ({"Question": "a", "Complex_CoT": "red", "Response": "b"}, "Complex_CoT"),
    ({"prompt": "a", "completion": "b", "split": "test"}, "split"),
    ({"question": "a", "context": "red dog", "answer": "b"}, "context"),
]


@pytest.mark.parametrize(("record", "name"), NAMED, ids=[name for _, name in NAMED])
def test_what_most_likely_matters_and_is_not_read_is_named(tmp_path, record, name):
    """With the number of rows; silence would be a wrong model."""
    (warning,) = warned(tmp_path, record)

    assert warning.startswith(f"file:///a.jsonl holds data that is not used: {name} in 1 (of 1 rows). ")


QUIET = [
    {"prompt": "a", "completion": "b", "input": ""},
    {"prompt": "a", "completion": "b", "id": 4, "source": "x", "lang": "en", "split": "train"},
    {"prompt": "hello", "prompt_id": "x", "messages": said("hello", "fine")},
    {"messages": said("a", "b"), "tools": None, "system": ""},
]


@pytest.mark.parametrize("record", QUIET)
def test_what_is_empty_harmless_or_said_already_is_not_named(tmp_path, record):
    """A warning that comes always is read never."""
    assert warned(tmp_path, record) == []


def test_the_advice_about_a_context_works(tmp_path):
    """What the warning says to set is set."""
    record = {"question": "what?", "context": "a dog", "answer": "dog"}
    (warning,) = warned(tmp_path, record)

    assert warning.endswith('set promptTemplate: "{context}\\n\\n{question}" in place of columns.prompt')
    assert warned(tmp_path, record, prompt_template="{context}\n\n{question}") == []


PREFERENCES = [
    ({"prompt": "hello", "chosen": "fine", "rejected": "bad"}, "{prompt: prompt, completion: chosen}"),
    ({"prompt": "hello", "chosen": said("hello", "fine"), "rejected": said("hello", "bad")}, "{messages: chosen}"),
    ({"input": {"messages": said("hello")}, "preferred_output": said("", "fine")[1:], "non_preferred_output": said("", "bad")[1:]},
     "{prompt: input, completion: preferred_output}"),
]  # fmt: skip


@pytest.mark.parametrize(("record", "columns"), PREFERENCES, ids=[columns for _, columns in PREFERENCES])
def test_preference_data_is_refused_with_columns_that_work(tmp_path, record, columns):
    """sft learns one answer; which one is for the user to say."""
    file = jsonl(tmp_path / "a.jsonl", [record])
    reason, message = refusal_of(tmp_path, file)
    named = dict(pair.split(": ") for pair in columns.strip("{}").split(", "))

    assert (reason, message.rsplit("set columns: ", 1)[-1]) == ("DatasetInvalid", columns)
    assert warned(tmp_path, record, columns=Columns(**named)) == []
    assert rows_of(tmp_path, datasets=(Dataset(location=at(file), columns=Columns(**named)),))[0][1] == "fine<|im_end|>"


def test_a_class_beside_its_name_is_no_verdict(tmp_path):
    """BANKING77 has label 0 to 76 and label_text: class 0 is not a bad answer."""
    rows = [{"text": "how", "label": 0, "label_text": "fine"}, {"text": "hello", "label": 6, "label_text": "red"}]
    file = jsonl(tmp_path / "a.jsonl", rows)
    named = Columns(prompt="text", completion="label_text")

    assert rows_of(tmp_path, datasets=(Dataset(location=at(file), columns=named),))[0][1] == "fine<|im_end|>"


OTHER = [
    ({"prompt": "a", "completion": "b", "label": "False"}, "looks like unpaired preference data"),
    ({"prompt": "a", "completion": "b", "label": 1}, "looks like unpaired preference data"),
    ({"instruction": "a", "completions": [{"response": "x"}]}, "holds several answers to each question in completions"),
    ({"prompt": "a", "response_a": "x", "response_b": "y", "winner": "a"}, "looks like preference data"),
    ({"message_id": "1", "parent_id": None, "text": "hello", "role": "prompter"}, "holds one message in each row"),
    ({"role": "user", "content": "hello"}, "holds one message in each row"),
    ({"prompt": "a", "completion": {"label": "x"}}, "a.jsonl row 1: its completion is an object, not text"),
    ({"prompt": "a", "completion": True}, "a.jsonl row 1: its completion is true or false, not text"),
    ({"id": "7", "question": "what?", "context": "c", "answers": {"text": ["dog"]}}, "has the columns id, question, context, answers"),
    ({"system": "be red", "messages": [{"role": "system", "content": "be blue"}, *said("a", "b")]},
     "a.jsonl row 1: it has a system prompt in system and another in its messages"),
]  # fmt: skip


@pytest.mark.parametrize(("record", "words"), OTHER, ids=[words[:50] for _, words in OTHER])
def test_what_sft_should_not_learn_as_it_is_is_refused(tmp_path, record, words):
    """Each with the reason."""
    reason, message = refusal_of(tmp_path, jsonl(tmp_path / "a.jsonl", [record]))

    assert reason == "DatasetInvalid"
    assert message.removeprefix("file:///a.jsonl").lstrip(": ").startswith(words)


def test_names_of_classes_are_learned_end_to_end(tmp_path):
    """The form of IMDb: a text, a ClassLabel that the library datasets writes as a number, its names in the schema."""
    features = {
        "text": {"dtype": "string", "_type": "Value"},
        "label": {"names": ["neg", "pos"], "_type": "ClassLabel"},
    }
    table = pa.table({"text": ["bad film", "good film"], "label": [0, 1]})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, tmp_path / "a.parquet")
    taught = Dataset(location=at(tmp_path / "a.parquet"), columns=Columns(prompt="text", completion="label"))

    (warning,) = prepared_rows(a_request(tmp_path / "a.parquet"), tokenizer(), tmp_path / "work").warnings
    assert "To teach label, set columns: {prompt: text, completion: label}" in warning
    assert [learned for _, learned in rows_of(tmp_path, datasets=(taught,))] == ["neg<|im_end|>", "pos<|im_end|>"]


def test_answers_that_a_program_left_blank_are_warned_of(tmp_path):
    """pandas writes nan, Python None."""
    (tmp_path / "a.csv").write_text("prompt,completion\na,nan\nb,fine\nc,None\n")

    assert prepared_rows(a_request(tmp_path / "a.csv"), tokenizer(), tmp_path / "work").warnings == (
        "2 of 3 rows (66.7 %) have an answer that stands for a missing value (nan, None), first a.csv row 1: the model learns to say "
        "it. Remove these rows unless it is intended",
    )


def test_answers_that_are_missing_or_say_nothing_are_counted_together(tmp_path):
    """Null is refused, an empty text and the words for a missing value are learned: whoever cleans the data needs all."""
    answers = [None, "", " ", "nan", "<nooutput>", *["fine"] * 15]
    rows = [{"prompt": f"hello {number}", "completion": said} for number, said in enumerate(answers)]
    file = jsonl(tmp_path / "a.jsonl", rows)
    skipping = Dataset(location=at(file), invalid_rows="skip", invalid_max_percent=10)
    others = (
        ". Of the other rows 2 have an empty answer and 2 have one that stands for a missing value (nan, <nooutput>): with these 5 rows "
        "teach no answer"
    )

    assert refusal_of(tmp_path, file)[1] == (
        "file:///a.jsonl: 1 of 20 rows cannot be used: its completion is empty or missing; the row has prompt, completion (a.jsonl row "
        "1). Correct or remove them, or skip them with datasets[].invalidRows: {action: skip}" + others
    )
    warnings = prepared_rows(a_request(datasets=(skipping,)), tokenizer(), tmp_path / "work").warnings
    assert warnings[-1].endswith("; they are skipped (invalidRows.action: skip)" + others)


@pytest.mark.parametrize(
    "cell",
    [
        "#N/A",
        "#REF!",
        "#VALUE!",
        "#NAME?",
        "#DIV/0!",
        "#NULL!",
        "#NUM!",
        "#SPILL!",
        "#NV",
        "#WERT!",
        "########",
        "NaT",
        "\\N",
        "N/A",
        "<nooutput>",
        "<noinput>",
        "No output",
        "<NULL>",
    ],
)
def test_cells_of_failed_formulas_are_warned_of_as_missing_values(tmp_path, cell):
    """A spreadsheet shows them in place of a value, and an export writes what it shows."""
    (tmp_path / "a.csv").write_text(f"prompt,completion\na,{cell}\nb,fine\n")

    assert prepared_rows(a_request(tmp_path / "a.csv"), tokenizer(), tmp_path / "work").warnings == (
        f"1 of 2 rows (50.0 %) have an answer that stands for a missing value ({cell}), first a.csv row 1: the model learns to say "
        "it. Remove these rows unless it is intended",
    )


@pytest.mark.parametrize("answer", ["#1", "#hashtag", "#42", "C#", "None of them", "#"])
def test_answers_that_only_look_like_a_failed_formula_are_learned_without_a_word(tmp_path, answer):
    """A hash begins many answers."""
    (tmp_path / "a.csv").write_text(f"prompt,completion\na,{answer}\nb,fine\n")

    assert prepared_rows(a_request(tmp_path / "a.csv"), tokenizer(), tmp_path / "work").warnings == ()


def test_turns_that_were_written_out_before_are_warned_of(tmp_path):
    """Questions would be learned as well as answers; a corpus for cpt may hold what it likes."""
    file = jsonl(tmp_path / "a.jsonl", [{"text": "### Instruction: hello ### Response: fine"}])

    (warning,) = prepared_rows(a_request(file), tokenizer(), tmp_path / "one").warnings
    assert warning.startswith("1 of 1 rows (100.0 %) hold turns that are already rendered")
    assert prepared_rows(a_request(file, objective="cpt"), tokenizer(), tmp_path / "two").warnings == ()
