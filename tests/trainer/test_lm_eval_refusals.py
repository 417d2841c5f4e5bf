"""What preflight refuses of a task of lm-eval, word for word; the remedies are tried."""

import copy
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from finetune_contract import Dataset, Evaluation, PreflightConfig
from finetune_trainer.preflight.examine import examine

from tests.trainer.data_inputs import at, jsonl, model, preflight_refusal, tokenizer
from tests.trainer.lm_eval_tasks import CHOICES, LM_EVAL, WRITTEN, a_metric, lm_eval_on_path, task_folder

pytestmark = LM_EVAL

DELETED = object()


@pytest.fixture(scope="module", autouse=True)
def library() -> Iterator[Path]:
    with lm_eval_on_path() as folder:
        yield folder


@pytest.fixture
def refusal(job: PreflightConfig, tmp_path: Path, workspaces: Callable[[], Path]) -> Callable[..., tuple[str, str]]:
    """Changes a task, its files or what is asked of it, and returns how the job is refused; the folder is TASKS."""

    def refused(
        given: dict[str, Any], changes: dict[str, Any] | None = None, *, files: dict[str, str] | None = None,
        evaluation: Evaluation | None = None, **asked: Any,
    ) -> tuple[str, str]:  # fmt: skip
        folder = task_folder(tmp_path / "tasks", with_changes(given, changes or {}), **(files or {}))
        metric = a_metric(folder, asked.pop("task", given["task"]), **asked)
        measured = replace(evaluation or Evaluation(fraction=0.1), metrics=(metric,))
        reason, message = preflight_refusal(replace(job, evaluation=measured), workspaces())
        return reason, message.replace(f"file://{folder}", "TASKS")

    return refused


def with_changes(task: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return a task with other fields."""
    made = copy.deepcopy(task) | changes
    return {name: value for name, value in made.items() if value is not DELETED}


def test_what_is_asked_is_counted_for_the_plan(job: PreflightConfig, tmp_path: Path, workspaces: Callable[[], Path]):
    """24 documents with four choices are 96 texts to read; 10 documents are 10 answers to generate, with two examples each."""
    folder = task_folder(tmp_path / "tasks", CHOICES, WRITTEN)
    metrics = (a_metric(folder, "echo_choice", "choice"), a_metric(folder, "echo_written", "written", limit=10))
    report = examine(replace(job, evaluation=Evaluation(fraction=0.1, metrics=metrics)), workspaces()).preflight
    one = examine(replace(job, evaluation=Evaluation(fraction=0.1, metrics=metrics[1:])), workspaces()).preflight

    assert report is not None
    assert one is not None
    assert (report.generated_answers, one.generated_answers, report.label_answers) == (10, 10, 0)
    assert 96 * 8 < report.task_tokens - one.task_tokens < 96 * 80
    assert 10 * 20 < one.task_tokens < 10 * one.task_tokens_max
    assert report.dataset_digest != one.dataset_digest


def test_other_documents_are_another_run(job: PreflightConfig, tmp_path: Path, workspaces: Callable[[], Path]):
    """What both models are measured on is part of the digest of a run."""
    found = set()
    for documents in (20, 24):
        folder = task_folder(tmp_path / "tasks", CHOICES, documents=documents)
        evaluation = Evaluation(fraction=0.1, metrics=(a_metric(folder, "echo_choice", limit=20),))
        outcome = examine(replace(job, evaluation=evaluation, output=job.output), workspaces() / "x")
        assert outcome.preflight is not None
        found.add(outcome.preflight.dataset_digest)

    assert len(found) == 2


REFUSED = [
    (
        "a name that is not there", CHOICES, {}, {"task": "echo_choise"},
        "TASKS has no task echo_choise: its YAML files name echo_choice. Did you mean echo_choice?",
    ),
    (
        "a data set of the hub", CHOICES, {"dataset_path": "EleutherAI/hellaswag", "dataset_kwargs": DELETED}, {},
        "dataset_path EleutherAI/hellaswag would be fetched from a hub, but only files of TASKS are read: put its files there, set "
        "dataset_path to json, csv, parquet, arrow or text, and name them in dataset_kwargs.data_files",
    ),
    (
        "a file on the web", CHOICES, {"dataset_kwargs": {"data_files": {"test": "https://example.org/a.jsonl"}}}, {},
        "data_files names https://example.org/a.jsonl, which would be fetched: put the file into TASKS and write its path",
    ),
    (
        "a missing file", CHOICES, {"dataset_kwargs": {"data_files": {"test": "choices.jsonl"}}}, {},
        "data_files names choices.jsonl, which is not in TASKS, where there is choice.jsonl, shots.jsonl, written.jsonl. Did you mean "
        "choice.jsonl?",
    ),
    (
        "a file outside", CHOICES, {"dataset_kwargs": {"data_files": {"test": "../secrets.jsonl"}}}, {},
        "data_files names ../secrets.jsonl, which is not in TASKS, where there is choice.jsonl, shots.jsonl, written.jsonl. Paths start "
        "at the task's file or at the folder.",
    ),
    (
        "no data", CHOICES, {"dataset_path": DELETED}, {},
        "dataset_path is missing: set it to json, csv, parquet, arrow or text and name files in dataset_kwargs.data_files",
    ),
    (
        "an option of a download", CHOICES, {"dataset_kwargs": {"data_files": "choice.jsonl", "streaming": True}}, {},
        "dataset_kwargs has streaming, which is not supported: use data_files",
    ),
    (
        "a split that is not there", CHOICES, {"test_split": "validation"}, {},
        "test_split is validation, but the data has no such split: correct it, or name the files of validation in data_files",
    ),
    (
        "no split to measure on", CHOICES, {"test_split": DELETED}, {},
        "test_split and validation_split are missing: set one of them to a split of the data, such as test",
    ),
    (
        "a split of examples that is not there", WRITTEN, {"fewshot_split": "dev"}, {},
        "fewshot_split is dev, but the data has no such split: correct it, or name the files of dev in data_files",
    ),
    (
        "too many examples", WRITTEN, {"num_fewshot": 9}, {},
        "num_fewshot is 9, which is more examples than there are: lower it, or set fewshot_split to a split with more rows",
    ),
    (
        "a column that is not there", CHOICES, {"doc_to_text": "{{question}}"}, {},
        "a template of the task uses a column that the documents do not have: 'question' is undefined. Correct the template, or the data",
    ),
    (
        "perplexity", CHOICES, {"output_type": "loglikelihood_rolling"}, {},
        "output_type loglikelihood_rolling measures perplexity of whole texts, which is not a mean over documents: use multiple_choice, "
        "loglikelihood or generate_until; the held-out loss measures how well text is predicted",
    ),
    (
        "an unknown kind", CHOICES, {"output_type": "multi_choice"}, {},
        "unknown output_type multi_choice: use multiple_choice, loglikelihood or generate_until. Did you mean multiple_choice?",
    ),
    (
        "a figure of all documents", CHOICES, {"metric_list": [{"metric": "f1"}, {"metric": "acc"}]}, {},
        "metric f1 of output_type multiple_choice is not a mean of a value of each document, so it has no interval and no difference by "
        "document: set lmEval.metric to acc",
    ),
    (
        "such a figure alone", WRITTEN, {"metric_list": [{"metric": "bleu"}]}, {},
        "metric bleu of output_type generate_until is not a mean of a value of each document, so it has no interval and no difference by "
        "document: add exact_match to metric_list",
    ),
    (
        "another aggregation", CHOICES, {"metric_list": [{"metric": "acc", "aggregation": "median"}]}, {},
        "aggregation of metric acc is median: only mean works here, since intervals are of means",
    ),
    (
        "a metric of the hub", WRITTEN, {"metric_list": [{"metric": "exact_match", "hf_evaluate": True}]}, {},
        "hf_evaluate fetches metric exact_match from the hub: remove it, lm-eval has exact_match of its own",
    ),
    (
        "several answers to a prompt", WRITTEN, {"repeats": 8}, {},
        "repeats is 8, but answers are always the likeliest, so all would be the same: remove repeats",
    ),
    (
        "sampled answers", WRITTEN, {"generation_kwargs": {"do_sample": True, "temperature": 0.7}}, {},
        "generation_kwargs asks for sampled answers or beams, but answers are always the likeliest: set do_sample to false and remove "
        "temperature and num_beams",
    ),
    (
        "a filter of one's own", WRITTEN, {"filter_list": [{"name": "x", "filter": [{"function": "custom"}]}]}, {},
        "filter x has the function custom: use regex, multi_choice_regex, remove_whitespace, lowercase, uppercase, map, take_first, "
        "take_first_k or majority_vote",
    ),
    (
        "an unknown field", CHOICES, {"doc_to_txt": "x"}, {},
        "the task file has the unknown field doc_to_txt: remove it, or correct its name. Did you mean doc_to_text?",
    ),
    (
        "an answer that is no choice", CHOICES, {"doc_to_target": "{{word}}s"}, {},
        "24 of 24 documents have an answer that is none of their choices (first document 0: {first}s): correct doc_to_target "
        "or doc_to_choice",
    ),
    (
        "a template that escapes", CHOICES, {"doc_to_text": "{{ ''.__class__.__mro__[1].__subclasses__() }}"}, {},
        "a template of the task does what templates may not do: access to attribute '__class__' of 'str' object is unsafe. Use "
        "filters and columns only",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("task", "changes", "asked", "message"), [row[1:] for row in REFUSED], ids=[r[0] for r in REFUSED]
)
def test_what_does_not_work_is_refused(
    refusal: Callable[..., tuple[str, str]],
    task: dict[str, Any],
    changes: dict[str, Any],
    asked: dict[str, Any],
    message: str,
):
    """Before a GPU is used."""
    reason, said = refusal(task, changes, **asked)

    assert (reason, said) == ("DatasetInvalid", f"evaluation.metrics task: {message.replace('{first}', 'east')}")


def test_a_metric_and_a_filter_are_named_as_the_task_does(refusal: Callable[..., tuple[str, str]]):
    """The nearest name is asked for."""
    assert refusal(CHOICES, metric="acc_nrm") == (
        "InvalidSpec",
        "evaluation.metrics task: the task has no metric acc_nrm: its metric_list names acc or acc_norm. Did you mean acc_norm?",
    )
    assert refusal(WRITTEN, metric="exact_match,first_word") == (
        "InvalidSpec",
        "evaluation.metrics task: the task has no filter first_word: its filter_list names first-word or as-said; correct "
        "lmEval.metric. Did you mean first-word?",
    )


CODE = """
task: coded
dataset_path: json
dataset_kwargs: {data_files: {test: choice.jsonl}}
test_split: test
process_docs: !function utils.process_docs
output_type: multiple_choice
doc_to_text: text
doc_to_choice: choices
doc_to_target: answer
"""


def test_code_of_a_task_is_not_run(refusal: Callable[..., tuple[str, str]], tmp_path: Path):
    """Not even imported; other files of the folder may have it."""
    ran = tmp_path / "ran"
    files = {"coded.yaml": CODE, "utils.py": f"open({str(ran)!r}, 'w')\ndef process_docs(docs): return docs\n"}

    assert refusal(CHOICES, files=files, task="coded") == (
        "DatasetInvalid",
        "evaluation.metrics task: process_docs is !function utils.process_docs, which is code, and code of a task is not run here: write "
        "it as a template, or process the documents beforehand and save the result as JSON lines",
    )
    assert refusal(CHOICES, files={**files, "bad.yaml": "a: !!python/object/apply:os.system [ls]"}, metric="acc_x")[
        0
    ] == ("InvalidSpec")
    assert not ran.exists()


def test_answers_must_fit_what_is_planned(refusal: Callable[..., tuple[str, str]]):
    """The limit of the job holds for every metric; the model reads no more than its positions."""
    generation = {"generation_kwargs": {"until": ["\n"], "max_gen_toks": 512, "do_sample": False}}
    assert refusal(WRITTEN, generation) == (
        "InvalidSpec",
        "evaluation.metrics task: the task lets answers have 512 tokens, but evaluation.maxAnswerTokens is 256: raise it to 512, or lower "
        "max_gen_toks in generation_kwargs",
    )
    reason, message = refusal(WRITTEN, generation, evaluation=Evaluation(fraction=0.1, max_answer_tokens=512))
    assert reason == "DatasetInvalid"
    assert message.startswith("evaluation.metrics task: its longest text has 6")
    assert message.endswith(
        " tokens with the answer, but the model has 512 positions: lower num_fewshot or max_gen_toks in the task file, or leave long "
        "documents out"
    )


def test_a_gate_needs_documents(refusal: Callable[..., tuple[str, str]]):
    """As it needs rows."""
    assert refusal(CHOICES, limit=12, evaluation=Evaluation(fraction=0.3, gated=True)) == (
        "DatasetTooSmall",
        "evaluation.metrics task: evaluation.gate needs at least 20 documents, but the task has 12: add documents, raise lmEval.limit, or "
        "remove the metric",
    )


def test_a_model_without_a_chat_template_is_asked_as_it_is(
    job: PreflightConfig, tmp_path: Path, workspaces: Callable[[], Path]
):
    """There is nothing to write turns with. Continued pretraining has no answers of its own, and may be measured on tasks."""
    model(tmp_path / "model", made=tokenizer(None))
    (tmp_path / "model/chat_template.jinja").unlink()
    data = jsonl(tmp_path / "texts.jsonl", [{"text": f"red green blue {number}"} for number in range(60)])
    folder = task_folder(tmp_path / "tasks", CHOICES)
    plain = replace(job, objective="cpt", datasets=(Dataset(location=at(data)),))
    asked = {chat: replace(plain, evaluation=Evaluation(fraction=0.1, metrics=(a_metric(folder, "echo_choice", chat_template=chat),)))
             for chat in (True, False)}  # fmt: skip

    assert preflight_refusal(asked[True], workspaces()) == (
        "InvalidSpec",
        "evaluation.metrics task: lmEval.prompts is chat, but the model has no chat template: use text, or set chat.template",
    )
    report = examine(asked[False], workspaces()).preflight
    assert report is not None
    assert report.task_tokens > 96 * 8


def test_an_image_without_the_library_says_how_to_build_one_with_it(
    refusal: Callable[..., tuple[str, str]], library: Path, monkeypatch: pytest.MonkeyPatch
):
    """Preflight is built with the same argument as the trainer, and asks before it reads the task."""
    monkeypatch.delitem(sys.modules, "lm_eval", raising=False)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place != str(library)])

    assert refusal(CHOICES) == (
        "InvalidSpec",
        "evaluation.metrics task: type lmEval needs lm-eval, which is not in this image: build the images of preflight and trainer with "
        "--build-arg EXTRAS=lm-eval, or, outside a cluster, install finetune-operator[lm-eval]",
    )
