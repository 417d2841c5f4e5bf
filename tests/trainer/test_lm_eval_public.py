"""Task files as people publish them, with a few documents each: asked as they are, or refused in words whose remedy works.

Each is written after a public one, named beside it, with other texts.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from datasets import Dataset as Table
from finetune_contract import Evaluation, PreflightConfig, PreflightReport
from finetune_trainer.preflight.examine import examine

from tests.trainer.data_inputs import preflight_refusal
from tests.trainer.lm_eval_tasks import LM_EVAL, a_metric, lm_eval_on_path

pytestmark = LM_EVAL


@pytest.fixture(scope="module", autouse=True)
def library() -> Iterator[Path]:
    with lm_eval_on_path() as folder:
        yield folder


Asked = Callable[..., PreflightReport]


@pytest.fixture
def job_of(job: PreflightConfig, tmp_path: Path) -> Callable[..., PreflightConfig]:
    """A job that measures a task of a folder, which is written from texts by path."""

    def made(task: str, files: dict[str, str], *, metric: str = "") -> PreflightConfig:
        folder = tmp_path / "tasks"
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        metrics = (a_metric(folder, task, metric=metric),)
        return replace(job, evaluation=Evaluation(fraction=0.1, metrics=metrics, max_answer_tokens=300))

    return made


@pytest.fixture
def asked(job_of: Callable[..., PreflightConfig], workspaces: Callable[[], Path]) -> Asked:
    """Returns what preflight counted."""

    def counted(*given: object, **more: object) -> PreflightReport:
        report = examine(job_of(*given, **more), workspaces()).preflight
        assert report is not None
        return report

    return counted


def rows(*lines: str) -> str:
    return "\n".join(lines) + "\n"


SUMS = rows(
    *(f'{{"question": "What is {n} and {n}?", "answer": "{n} and {n} is {2 * n}.\\n#### {2 * n}"}}' for n in range(6))
)

GSM8K = """
tag:
  - math_word_problems
task: gsm8k
dataset_path: json
dataset_name: null
dataset_kwargs:
  data_files: {train: gsm8k/train.jsonl, test: gsm8k/test.jsonl}
output_type: generate_until
training_split: train
fewshot_split: train
test_split: test
doc_to_text: "Question: {{question}}\\nAnswer:"
doc_to_target: "{{answer}}"
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
    ignore_case: true
    ignore_punctuation: false
    regexes_to_ignore: [",", "\\\\$", "(?s).*#### ", "\\\\.$"]
generation_kwargs:
  until: ["Question:", "</s>", "<|im_end|>"]
  do_sample: false
  temperature: 0.0
repeats: 1
num_fewshot: 2
filter_list:
  - name: strict-match
    filter:
      - {function: regex, regex_pattern: "#### (\\\\-?[0-9\\\\.\\\\,]+)"}
      - {function: take_first}
  - name: flexible-extract
    filter:
      - {function: regex, group_select: -1, regex_pattern: "(-?[$0-9.,]{2,})|(-?[0-9]+)"}
      - {function: take_first}
metadata:
  - version: 3.0
"""


def test_gsm8k_with_its_data_on_the_disk(asked: Asked):
    """lm_eval/tasks/gsm8k/gsm8k.yaml, with data_files in place of the hub; `metadata` is a list in many older files."""
    files = {"gsm8k.yaml": GSM8K, "gsm8k/train.jsonl": SUMS, "gsm8k/test.jsonl": SUMS}
    for metric in ("", "exact_match,flexible-extract"):
        report = asked("gsm8k", files, metric=metric)

        assert report.generated_answers == 6
        assert report.task_tokens_max > 256


MMLU = {
    "mmlu/_default_template_yaml": """
dataset_path: data/mmlu
test_split: test
fewshot_split: dev
num_fewshot: 2
fewshot_config: {sampler: first_n}
output_type: multiple_choice
doc_to_text: "{{question.strip()}}\\nA. {{choices[0]}}\\nB. {{choices[1]}}\\nC. {{choices[2]}}\\nD. {{choices[3]}}\\nAnswer:"
doc_to_choice: ["A", "B", "C", "D"]
doc_to_target: answer
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
metadata: {version: 1.0}
""",
    "mmlu/mmlu_zoo.yaml": """
"dataset_name": "zoo"
"description": "The following are multiple choice questions (with answers) about animals.\\n\\n"
"tag": "mmlu_other_tasks"
"include": "_default_template_yaml"
"task": "mmlu_zoo"
"task_alias": "zoo"
""",
    "mmlu/_mmlu.yaml": """
group: mmlu
task: [mmlu_zoo, mmlu_garden]
aggregate_metric_list: [{metric: acc, weight_by_size: true}]
""",
    "mmlu/utils.py": "raise SystemExit",
}


def animals(folder: Path) -> None:
    """A data set as it lies on the hub: parquet files by configuration and split, and a card."""
    questions = {
        "question": [f"Which of these {n} barks? " for n in range(5)], "choices": [["cat", "dog", "bird", "fish"]] * 5, "answer": [1] * 5,
    }  # fmt: skip
    for split in ("dev", "test"):
        (folder / "zoo").mkdir(parents=True, exist_ok=True)
        Table.from_dict(questions).to_parquet(folder / f"zoo/{split}-00000-of-00001.parquet")
    card = "configs:\n- config_name: zoo\n  data_files:\n" + "".join(
        f"  - {{split: {split}, path: zoo/{split}-*}}\n" for split in ("dev", "test")
    )
    (folder / "README.md").write_text(f"---\n{card}---\n# Zoo\n")


def test_mmlu_with_a_template_that_is_included_and_a_copy_of_the_data_set(
    asked: Asked, job_of: Callable[..., PreflightConfig], workspaces: Callable[[], Path], tmp_path: Path
):
    """lm_eval/tasks/mmlu/default, and the answers to "How to use local downloaded mmlu dataset?": a group is refused by its tasks."""
    animals(tmp_path / "tasks/data/mmlu")
    report = asked("mmlu_zoo", MMLU)

    assert report.task_tokens > 5 * 4 * 3 * 20
    for name, what in (("mmlu", "group"), ("mmlu_other_tasks", "tag")):
        _, message = preflight_refusal(job_of(name, MMLU), workspaces())
        assert f"is a {what}: measure its tasks, each as a metric of its own: mmlu_zoo" in message


def test_a_data_set_that_was_saved_to_a_disk_is_named_by_its_files(
    asked: Asked, job_of: Callable[..., PreflightConfig], workspaces: Callable[[], Path], tmp_path: Path
):
    """ "Local dataset or model path support": what the message advises is a task that works."""
    Table.from_dict(
        {"question": ["Who barks? "] * 3, "choices": [["cat", "dog", "bird", "fish"]] * 3, "answer": [1] * 3}
    ).save_to_disk(tmp_path / "tasks/saved/test")
    saved = (
        MMLU["mmlu/_default_template_yaml"]
        .replace("data/mmlu", "saved")
        .replace("fewshot_split: dev\nnum_fewshot: 2", "")
    )
    files = {
        "mmlu/_default_template_yaml": saved,
        "mmlu/zoo.yaml": MMLU["mmlu/mmlu_zoo.yaml"].replace("mmlu_zoo", "zoo"),
    }
    _, message = preflight_refusal(job_of("zoo", files), workspaces())

    assert message == (
        "evaluation.metrics task: dataset_path saved was written by save_to_disk: set dataset_path to arrow, and name its files in "
        "dataset_kwargs.data_files, such as test: saved/test/data-00000-of-00001.arrow"
    )
    named = "dataset_path: arrow\ndataset_kwargs: {data_files: {test: saved/test/data-00000-of-00001.arrow}}"
    files["mmlu/_default_template_yaml"] = saved.replace("dataset_path: saved", named)
    files["mmlu/zoo.yaml"] = files["mmlu/zoo.yaml"].replace('"dataset_name": "zoo"\n', "")
    assert asked("zoo", files).task_tokens > 3 * 4 * 8


def test_a_card_that_names_files_elsewhere_is_refused(
    job_of: Callable[..., PreflightConfig], workspaces: Callable[[], Path], tmp_path: Path
):
    """The datasets library would fetch them."""
    animals(tmp_path / "tasks/data/mmlu")
    card = "---\nconfigs:\n- config_name: zoo\n  data_files:\n    - https://example.org/test.parquet\n---\n"
    _, message = preflight_refusal(job_of("mmlu_zoo", {**MMLU, "data/mmlu/README.md": card}), workspaces())

    assert message == (
        "evaluation.metrics task: data/mmlu/README.md names data_files with an address, which would be fetched: write paths of the folder"
    )


SCIQ = """
task: sciq
dataset_path: json
dataset_kwargs: {data_files: {validation: sciq.json}}
validation_split: validation
output_type: multiple_choice
doc_to_text: "{{support.lstrip()}}\\nQuestion: {{question}}\\nAnswer:"
doc_to_target: 3
doc_to_choice: "{{[distractor1, distractor2, distractor3, correct_answer]}}"
should_decontaminate: true
doc_to_decontamination_query: "{{support}} {{question}}"
metric_list:
  - {metric: acc}
  - {metric: acc_norm}
"""


def test_sciq_whose_answer_is_always_the_last(asked: Asked):
    """lm_eval/tasks/sciq/sciq.yaml: a number as target, choices made by the template, validation only."""
    row = '{"support": " Dogs bark.", "question": "Who barks?", "distractor1": "a cat", "distractor2": "a fish", "distractor3": "a bird", '
    report = asked(
        "sciq", {"sciq.yaml": SCIQ, "sciq.json": rows(*[row + '"correct_answer": "a dog"}'] * 3)}, metric="acc_norm"
    )

    assert report.task_tokens > 3 * 4 * 8


BOOLQ = """
tag: super-glue-lm-eval-v1
task: boolq
dataset_path: csv
dataset_kwargs: {data_files: {train: boolq.csv, validation: boolq.csv}, trust_remote_code: true, cache_dir: /elsewhere/cache}
output_type: multiple_choice
training_split: train
validation_split: validation
doc_to_text: "{{passage}}\\nQuestion: {{question}}?\\nAnswer:"
doc_to_target: label
doc_to_choice: [CHOICES]
metric_list:
  - {metric: acc, weight_by_size: false}
metadata: {version: 2.0}
"""


def test_boolq_with_words_that_yaml_takes_for_truth(
    asked: Asked, job_of: Callable[..., PreflightConfig], workspaces: Callable[[], Path]
):
    """lm_eval/tasks/super_glue/boolq/default.yaml; without quotes, `no` and `yes` are no texts."""
    files = {"boolq.csv": rows("passage,question,label", "Dogs bark,do dogs bark,1", "Cats meow,do cats bark,0")}
    _, message = preflight_refusal(
        job_of("boolq", files | {"boolq.yaml": BOOLQ.replace("CHOICES", "no, yes")}), workspaces()
    )

    assert message == (
        'evaluation.metrics task: doc_to_choice lists False, which YAML does not read as text: put every choice in quotes, such as "yes" '
        'and "no"'
    )
    assert asked("boolq", files | {"boolq.yaml": BOOLQ.replace("CHOICES", '"no", "yes"')}).task_tokens > 2 * 2 * 8


LAMBADA = """
tag: [lambada]
task: lambada_openai
dataset_path: text
dataset_kwargs: {data_files: {test: lambada.txt}}
output_type: loglikelihood
test_split: test
doc_to_text: "{{text.split(' ')[:-1]|join(' ')}}"
doc_to_target: "{{' '+text.split(' ')[-1]}}"
metric_list:
  - {metric: perplexity, aggregation: perplexity, higher_is_better: false}
  - {metric: acc, aggregation: mean, higher_is_better: true}
"""


def test_lambada_whose_first_metric_is_a_perplexity(
    asked: Asked, job_of: Callable[..., PreflightConfig], workspaces: Callable[[], Path]
):
    """lm_eval/tasks/lambada/lambada_openai.yaml: the message names the other metric, which works."""
    files = {"lambada.yaml": LAMBADA, "lambada.txt": rows("the dog said to the cat", "the bird sang to the fish")}
    _, message = preflight_refusal(job_of("lambada_openai", files), workspaces())

    assert message == (
        "evaluation.metrics task: metric perplexity of output_type loglikelihood is not a mean of a value of each document, so it has no "
        "interval and no difference by document: set lmEval.metric to acc"
    )
    assert asked("lambada_openai", files, metric="acc").task_tokens > 10


WINOGRANDE = """
task: winogrande_local
dataset_path: json
dataset_kwargs: {data_files: {train: wino.jsonl, validation: wino.jsonl}}
training_split: train
validation_split: validation
output_type: multiple_choice
doc_to_text: "{{0 if answer == '1' else 1}}"
doc_to_target: "{{sentence.split('_')[1].strip()}}"
doc_to_choice: "{{[sentence.split('_')[0] + option1, sentence.split('_')[0] + option2]}}"
num_fewshot: 1
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""


def test_winogrande_whose_choices_are_in_the_prompt(asked: Asked):
    """lm_eval/tasks/winogrande/default.yaml does it with Python; these are the same three functions as templates."""
    row = '{"sentence": "The dog chased the cat because the _ was fast.", "option1": "dog", "option2": "cat", "answer": "2"}'
    other = row.replace("fast", "slow").replace('"2"', '"1"')

    assert asked("winogrande_local", {"w.yaml": WINOGRANDE, "wino.jsonl": rows(row, other)}).task_tokens > 2 * 2 * 12


def test_a_benchmark_that_a_program_writes(asked: Asked):
    """Prompts with their answers as one JSON lines file, measured by whether the answer is what the model would say."""
    text = """
task: mine
dataset_path: json
dataset_kwargs:
  data_files: mine/data.jsonl
test_split: train
output_type: loglikelihood
doc_to_text: "{{prompt}} "
doc_to_target: "{{response}}"
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
num_fewshot: 0
"""
    data = rows('{"prompt": "red and", "response": "green"}', '{"prompt": "one and", "response": "two"}')

    assert asked("mine", {"mine/task.yaml": text, "mine/data.jsonl": data}).task_tokens >= 4


GROUPED = """
group: quiz
task:
  - {task: quiz-a, dataset_kwargs: {data_files: {test: a.jsonl}}}
  - {task: quiz-b, dataset_kwargs: {data_files: {test: b.jsonl}}, process_docs: !function utils.level_b}
dataset_path: json
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: ["1", "2", "3", "4"]
doc_to_target: "{{(correct_answer_num|int)-1}}"
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
aggregate_metric_list: [{metric: acc, aggregation: mean, weight_by_size: false}]
metadata: {version: 2.0}
"""


def test_tasks_that_a_group_spells_out_are_found_by_their_names(
    asked: Asked, job_of: Callable[..., PreflightConfig], workspaces: Callable[[], Path]
):
    """What the group says holds for each; only the one with code is refused."""
    data = rows('{"question": "one or two?", "correct_answer_num": "2"}')
    files = {"quiz.yaml": GROUPED, "a.jsonl": data, "b.jsonl": data}

    assert preflight_refusal(job_of("quiz", files), workspaces())[1].endswith(
        "is a group: measure its tasks, each as a metric of its own: quiz-a, quiz-b"
    )
    assert asked("quiz-a", files).task_tokens >= 8
    assert (
        "process_docs is !function utils.level_b, which is code"
        in preflight_refusal(job_of("quiz-b", files), workspaces())[1]
    )


def test_a_path_of_somebody_elses_disk_is_told_with_the_file_that_is_there(
    job_of: Callable[..., PreflightConfig], workspaces: Callable[[], Path]
):
    """ "How to load local datasets?" and guides for offline machines name full paths."""
    text = GSM8K.replace("gsm8k/train.jsonl", "/elsewhere/gsm8k-train.jsonl")
    files = {"gsm8k.yaml": text, "gsm8k-train.jsonl": SUMS, "gsm8k/test.jsonl": SUMS}
    _, message = preflight_refusal(job_of("gsm8k", files), workspaces())

    assert "data_files names /elsewhere/gsm8k-train.jsonl, which is not in file://" in message
    assert message.endswith("Paths start at the task's file or at the folder. Did you mean gsm8k-train.jsonl?")


def test_data_that_is_only_trained_on_cannot_be_measured(
    job_of: Callable[..., PreflightConfig], workspaces: Callable[[], Path]
):
    """Tutorials leave both splits empty; the library says so with a traceback."""
    text = SCIQ.replace(
        "validation_split: validation", "training_split: train\nvalidation_split: null\ntest_split: null"
    )
    _, message = preflight_refusal(job_of("sciq", {"sciq.yaml": text, "sciq.json": "{}\n"}), workspaces())

    assert message == (
        "evaluation.metrics task: test_split and validation_split are missing: set one of them to a split of the data, such as test"
    )


CONSISTENT = GSM8K.replace("repeats: 1", "repeats: 64").replace(
    "do_sample: false\n  temperature: 0.0", "do_sample: true\n  temperature: 0.2"
)


def test_self_consistency_is_refused_until_it_is_greedy(
    asked: Asked, job_of: Callable[..., PreflightConfig], workspaces: Callable[[], Path]
):
    """lm_eval/tasks/gsm8k/gsm8k-cot-self-consistency.yaml; following both messages leads to a task that works."""
    files = {"gsm8k/train.jsonl": SUMS, "gsm8k/test.jsonl": SUMS}
    _, first = preflight_refusal(job_of("gsm8k", files | {"g.yaml": CONSISTENT}), workspaces())
    once = CONSISTENT.replace("repeats: 64\n", "")
    _, second = preflight_refusal(job_of("gsm8k", files | {"g.yaml": once}), workspaces())
    greedy = once.replace("do_sample: true\n  temperature: 0.2", "do_sample: false")

    assert "repeats is 64" in first
    assert "set do_sample to false and remove temperature" in second
    assert asked("gsm8k", files | {"g.yaml": greedy}).generated_answers == 6


def test_what_the_examples_have_is_asked(job: PreflightConfig, workspaces: Callable[[], Path]):
    """The folder of the tenth example, as it is."""
    folder = Path(__file__).parents[2] / "examples/10-own-benchmark/tasks"
    metrics = (
        a_metric(folder, "support_routing", "routing", metric="acc_norm"),
        a_metric(folder, "opening_hours", "opening-hours", chat_template=True),
    )
    report = examine(
        replace(job, evaluation=Evaluation(fraction=0.2, metrics=metrics, gated=True)), workspaces()
    ).preflight

    assert report is not None
    assert report.generated_answers == 24
    assert report.task_tokens > 26 * 4 * 10
