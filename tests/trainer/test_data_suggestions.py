"""What is suggested for columns that fit no form: each suggestion is followed here, and teaches what it says."""

import re

import pytest
import yaml
from finetune_contract import Columns, Dataset

from tests.trainer.data_inputs import a_request, at, jsonl, prepared_rows, refusal_of, rows_of, said, tokenizer

pytestmark = pytest.mark.usefixtures("local_files")

CHOICES = [{"text": "red", "label": "A"}, {"text": "blue", "label": "B"}]
LABELLED = [{"from_name": "mood", "to_name": "text", "type": "choices", "value": {"choices": ["fine"]}}]
FOLLOWED = [
    ("LangSmith", {"inputs": {"question": "how"}, "outputs": {"answer": "fine"}}, "how"),
    ("a chat in LangSmith", {"inputs": {"messages": said("how")}, "outputs": {"generations": said("", "fine")[1:]}}, "how"),
    ("Label Studio", {"id": 1, "annotations": [{"id": 7, "result": LABELLED}], "data": {"text": "how"}, "meta": {}}, "how"),
    ("doccano", {"id": 1, "data": "how", "label": ["fine"]}, "how"),
    ("SQuAD", {"title": "x", "context": "red", "question": "how", "answers": {"text": ["fine"], "answer_start": [1]}}, "red\n\nhow"),
    ("ELI5", {"q_id": "x", "title": "how", "selftext": "", "subreddit": "x", "answers": {"text": ["fine", "no"]}}, "how"),
    ("a post", {"Id": "1", "Title": "how", "Body": "red", "AcceptedAnswer": "fine", "Tags": "x"}, "how\n\nred"),
    ("a question in two parts", {"question_title": "how", "question_content": "red", "best_answer": "fine"}, "how\n\nred"),
    ("a ticket", {"Ticket ID": "1", "Subject": "how", "Description": "red", "Priority": "high", "Agent Reply": "fine"}, "how\n\nred"),
    ("TriviaQA", {"question": "how", "answer": {"value": "fine", "aliases": ["x"]}}, "how"),
    ("ARC", {"question": {"stem": "how", "choices": CHOICES}, "answerKey": "fine"}, "how\n\nA. red\nB. blue"),
    ("CommonsenseQA", {"question": "how", "choices": {"label": ["A", "B"], "text": ["red", "blue"]}, "answerKey": "fine"},
     "how\n\nA. red\nB. blue"),
    ("several generations", {"instruction": "how", "generations": ["fine", "no"], "ratings": [5, 2]}, "how"),
    ("a log of calls", {"request_body": {"messages": said("how")}, "response_body": {"choices": [{"message": said("", "fine")[1]}]}},
     "how"),
    ("a chat with its history", {"id": "x", "title": "t", "export": {"title": "t", "messages": said("how", "fine")}}, "how"),
    ("names that say nothing", {"v1": "how", "v2": "fine"}, "how"),
    ("SQuAD as published", {"title": "x", "paragraphs": [{"context": "red", "qas": [{"question": "how", "answers": [{"text": "fine"}]}]}]},
     "red\n\nhow"),
    ("SQuAD with several questions", {"title": "fine", "paragraphs": [
        {"context": "red fine", "qas": [{"question": "how", "answers": [{"text": "fine"}]}, {"question": "a", "answers": [{"text": "b"}]}]},
        {"context": "blue", "qas": []}]}, "red fine\n\nhow"),
    ("a question with its source", {"user_prompt": "how", "prompt_source": "red", "prompt_model": "blue", "label": "fine"}, "how"),
    ("tests beside solutions", {"description": "how", "public_tests": {"output": ["2"]}, "solutions": {"solution": ["fine", "no"]}}, "how"),
    ("an answer of a model", {"ts": "x", "userQuery": "how", "modelResponse": "fine", "latencyMs": 4}, "how"),
    ("a translation", {"source_text": "how", "source_lang": "en", "target_lang": "de", "translated_text": "fine"}, "how"),
    ("text to SQL", {"db_id": "x", "question": "how", "evidence": "red", "SQL": "fine"}, "red\n\nhow"),
    ("answers with scores", {"prompt": said("how"), "responses": [{"completion": "fine", "score": 1}, {"completion": "no"}]}, "how"),
    ("a row written out", {"whole_string": "def how: fine", "documentation_string": "how", "code_string": "fine"}, "how"),
    ("who speaks, in Chinese", {"data": ["\u95ee\uff1ahow", "\u7b54\uff1afine"]}, "how"),
    ("a summary", {"transcript": "how", "summary": "fine", "topic": "x"}, "how"),
    ("German names", {"Frage": "how", "Antwort": "fine"}, "how"),
    ("TruthfulQA", {"question": "how", "best_answer": "fine", "correct_answers": ["no"], "incorrect_answers": ["red"]}, "how"),
    ("reinforcement learning", {"data_source": "x", "prompt": said("how"), "reward_model": {"ground_truth": "fine"}}, "how"),
]  # fmt: skip


def suggested(message):
    """The fields of datasets[] that a message says to set."""
    columns = re.search(r"columns: (\{.*?\})(?=[,;.]| and |$| \()", message)
    template = re.search(r'promptTemplate: ("(?:[^"\\]|\\.)*")', message)
    found = {"columns": Columns(**yaml.safe_load(columns[1]))} if columns else {}
    return found | ({"prompt_template": yaml.safe_load(template[1])} if template else {})


@pytest.mark.parametrize(("kind", "record", "asked"), FOLLOWED, ids=[kind for kind, *_ in FOLLOWED])
def test_a_suggestion_works_when_it_is_followed(tmp_path, kind, record, asked):
    """The answer is learned, and the question is whole."""
    file = jsonl(tmp_path / "a.jsonl", [record])
    (message,) = [refusal_of(tmp_path, file)[1]]
    followed = Dataset(location=at(file), **suggested(message))

    assert rows_of(tmp_path / "again", datasets=(followed,)) == [
        (f"<|im_start|>user\n{asked}<|im_end|>\n<|im_start|>assistant\nfine<|im_end|>\n", "fine<|im_end|>")
    ]


WARNED = [
    ("a text and its class in a list", {"text": "how", "label": ["fine"]}, "how"),
    ("a text and its code", {"text": "how", "code": "fine"}, "how"),
    ("choices in columns", {"question": "how", "A": "red", "B": "blue", "answer": "fine"}, "how\n\nA. red\nB. blue"),
    ("a text that the question is about", {"question": "how", "answer": "fine", "context": "red"}, "red\n\nhow"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "record", "asked"), WARNED, ids=[kind for kind, *_ in WARNED])
def test_the_suggestion_of_a_warning_works_when_it_is_followed(tmp_path, kind, record, asked):
    """And is not given again."""
    file = jsonl(tmp_path / "a.jsonl", [record])
    (warning,) = prepared_rows(a_request(file), tokenizer(), tmp_path / "work").warnings
    followed = (Dataset(location=at(file), **suggested(warning)),)

    assert rows_of(tmp_path / "again", datasets=followed) == [
        (f"<|im_start|>user\n{asked}<|im_end|>\n<|im_start|>assistant\nfine<|im_end|>\n", "fine<|im_end|>")
    ]
    assert prepared_rows(a_request(datasets=followed), tokenizer(), tmp_path / "last").warnings == ()


HAS = "but a column with messages, or a prompt and a completion, or text is needed: "
TOLD = [
    ("a class as a number", {"premise": "how", "hypothesis": "red", "label": 0},
     "file:///a.jsonl has the columns premise, hypothesis, label, " + HAS + "label is the number 0: write it as text, or the name of "
     "the class that it stands for, into a column completion in place of label, and set columns: {completion: completion} and "
     'promptTemplate: '
     '"{premise}\\n\\n{hypothesis}"'),
    ("the number of a choice", {"question": "how", "choices": ["red", "blue"], "answer": 1},
     "file:///a.jsonl: a.jsonl row 1: its answer is the number 1: it only says which of choices is right, so write the text of that "
     'one into a column completion, and set columns: {completion: completion} and promptTemplate: "{question}\\n\\n{choices.0}\\n'
     '{choices.1}"'),
    ("answers without questions", {"custom_id": "1", "response": {"body": {"choices": [{"message": said("", "fine")[1]}]}}},
     "file:///a.jsonl has the columns custom_id, response, " + HAS + "response.body holds answers, and nothing holds the questions: "
     "write the question of each row into a column prompt, and set columns: {prompt: prompt, completion: response.body}"),
    ("tags of words", {"id": "1", "tokens": ["EU", "says"], "ner_tags": [3, 0]},
     "file:///a.jsonl has the columns id, tokens, ner_tags, " + HAS + "none of them holds the answer as text (in a row: tokens is a "
     "list of texts, ner_tags is a list of numbers), so write it into a column completion"),
    ("a class that is_ names", {"article_link": "x", "headline": "how", "is_sarcastic": 1},
     "file:///a.jsonl has the columns article_link, headline, is_sarcastic, " + HAS + "is_sarcastic is the number 1: write it as text, "
     "or the name of the class that it stands for, into a column completion in place of is_sarcastic, and set columns: {prompt: headline, "
     "completion: completion}"),
    ("names of a table that say nothing", {"v1": "how", "v2": "fine"},
     "file:///a.jsonl has the columns v1, v2, " + HAS + "name them in datasets[].columns, such as columns: {prompt: v1, completion: v2}, "
     "or the other way round"),
    ("one message of a thread in a row", {"tweet_id": "1", "text": "how", "in_response_to_tweet_id": "2"},
     "file:///a.jsonl holds one message in each row (column text), so no row has a question with its answer: join the messages of a "
     "conversation into one row with a column messages, each with a role, user or assistant, following in_response_to_tweet_id, or set "
     "columns: {text: text} to learn each message as plain text"),
    ("judged steps of one answer", {"prompt": "how", "completions": ["red", "blue"], "labels": [True, False]},
     "file:///a.jsonl looks like stepwise supervision (columns prompt, completions, labels): completions holds the steps of one answer, "
     "and labels says which are right. Of the rows whose labels are all true, join the steps into a column completion, and leave out "
     "labels"),
    ("answers compared", {"history": "how", "human_ref_A": "fine", "human_ref_B": "no", "labels": 1},
     "file:///a.jsonl looks like preference data (columns history, human_ref_A, human_ref_B, labels): sft learns one answer. Write the "
     "better one of human_ref_A and human_ref_B into a column completion, or set columns.completion to the one to learn"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "record", "message"), TOLD, ids=[kind for kind, *_ in TOLD])
def test_what_must_be_written_first_is_said(tmp_path, kind, record, message):
    """Word for word, with what a row holds."""
    assert refusal_of(tmp_path, jsonl(tmp_path / "a.jsonl", [record]))[1] == message


def test_a_first_row_that_says_little_is_not_taken_for_all(tmp_path):
    """SQuAD 2 begins with questions that have no answer; the refusal counts the rows and goes by the fullest."""
    rows = [
        {"context": "red", "question": "how", "answers": {"text": [], "answer_start": []}},
        {"context": "red", "question": "how", "answers": {"text": ["fine"], "answer_start": [0]}},
    ]

    assert refusal_of(tmp_path, jsonl(tmp_path / "a.jsonl", rows))[1] == (
        f"file:///a.jsonl (2 rows) has the columns context, question, answers, {HAS}name them in datasets[].columns, such as "
        'columns: {completion: answers.text.0} and promptTemplate: "{context}\\n\\n{question}"'
    )


def test_a_list_of_records_may_be_wrapped_twice(tmp_path):
    """Rasa's export names its format around the list."""
    (tmp_path / "a.json").write_text('{"nlu": {"examples": [{"question": "how", "answer": "fine"}], "synonyms": []}}')

    assert [learned for _, learned in rows_of(tmp_path, tmp_path / "a.json")] == ["fine<|im_end|>"]


REASONED = {"input": "how", "reasoning_content": "red or blue, so red", "content": "fine", "repo_name": "x", "score": 9}
KEEP = "to learn the reasoning, too, write each row as messages, with reasoning_content beside content in the answer"


def test_an_answer_beside_its_reasoning_is_suggested_with_the_way_to_keep_both(tmp_path):
    """The form of Chinese-DeepSeek-R1-Distill; followed, the warning says it again."""
    file = jsonl(tmp_path / "a.jsonl", [REASONED])
    followed = Dataset(location=at(file), columns=Columns(prompt="input", completion="content"))

    assert refusal_of(tmp_path, file)[1].endswith(
        f"such as columns: {{prompt: input, completion: content}}; reasoning_content is left out: {KEEP}"
    )
    (warning,) = prepared_rows(a_request(datasets=(followed,)), tokenizer(), tmp_path / "work").warnings
    assert warning == (
        f"file://{file} holds data that is not used: score in 1, reasoning_content in 1 (of 1 rows). Rows are trained without "
        f"reasoning_content: {KEEP}"
    )


def test_a_switch_named_reasoning_is_no_reasoning(tmp_path):
    """Llama-Nemotron says on or off there."""
    file = jsonl(tmp_path / "a.jsonl", [{"prompt": "how", "completion": "fine", "reasoning": "off"}])

    (warning,) = prepared_rows(a_request(file), tokenizer(), tmp_path / "work").warnings
    assert warning.endswith("Rows are trained without it: add it to the question or the answer if it matters")


def test_the_same_word_in_every_row_is_not_the_answer_while_a_text_is_there(tmp_path):
    """Label Studio keeps manual beside each text that somebody wrote."""
    rows = [
        {
            "data": {"prompt": f"how {number}"},
            "annotations": [{"result": [{"origin": "manual", "value": {"text": [f"fine {number}"]}}]}],
        }
        for number in range(4)
    ]
    file = jsonl(tmp_path / "a.jsonl", rows)

    named = "{prompt: data.prompt, completion: annotations.0.result.0.value.text.0}"
    assert refusal_of(tmp_path, file)[1].endswith(f"name them in datasets[].columns, such as columns: {named}")
