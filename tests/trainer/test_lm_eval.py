"""Tasks of lm-eval, end to end on tiny models: the figures are those of lm-eval itself, with intervals, and every answer is on disk."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from finetune_contract import Chat, Evaluation
from finetune_trainer.training.asking import Interview
from finetune_trainer.training.train import prepare

from tests.trainer.lm_eval_tasks import CHOICES, LM_EVAL, WRITTEN, a_metric, lm_eval_on_path, task_folder
from tests.trainer.running import answers_at, bench, local_node, trained, whole_and_resumed
from tests.trainer.tiny import a_run, conversations, tiny_model

pytestmark = LM_EVAL


@pytest.fixture(scope="module", autouse=True)
def library() -> Iterator[Path]:
    with lm_eval_on_path() as folder:
        yield folder


@pytest.fixture(scope="module")
def talkative(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("qwen2"), "qwen2")


def by_itself(model: Path, tasks: Path, names: list[str], monkeypatch: pytest.MonkeyPatch, **asked: Any) -> Any:
    """What lm-eval says of a model on the disk, in the way of its own guide: data is named from the working directory."""
    import lm_eval  # noqa: PLC0415
    from lm_eval.models.huggingface import HFLM  # noqa: PLC0415
    from lm_eval.tasks import TaskManager  # noqa: PLC0415

    monkeypatch.chdir(tasks)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tasks / "cache"))
    return lm_eval.simple_evaluate(
        model=HFLM(pretrained=str(model), device="cpu", batch_size=5, dtype="float32"), tasks=names,
        task_manager=TaskManager(include_path=str(tasks), include_defaults=False), bootstrap_iters=0, **asked,
    )  # fmt: skip


def test_both_models_get_the_figures_that_lm_eval_gives_them(
    tmp_path: Path, talkative: Path, monkeypatch: pytest.MonkeyPatch
):
    """Likelihoods and generated answers, with examples in the prompt and filters: document by document the same."""
    tasks = task_folder(tmp_path / "tasks", CHOICES, WRITTEN)
    metrics = (
        a_metric(tasks, "echo_choice", "choice"),
        a_metric(tasks, "echo_choice", "norm", metric="acc_norm", limit=10),
        a_metric(tasks, "echo_written", "written"),
        a_metric(tasks, "echo_written", "said", metric="exact_match,as-said"),
    )
    run = a_run(
        tmp_path, model=talkative, data=conversations(tmp_path / "train.jsonl", rows=60), method="full", precision="mixed",
        evaluation=Evaluation(fraction=0.2, max_examples=12, metrics=metrics), answers_at_once=3, learning_rate=1e-3,
    )  # fmt: skip
    outcome = trained(run, tmp_path)

    assert outcome.evaluation is not None
    found = {result.name: result for result in outcome.evaluation.metrics}
    lines = answers_at(tmp_path / "out")
    for name, model in (("base", talkative), ("tuned", tmp_path / "out/model")):
        theirs = by_itself(model, tasks, ["echo_choice", "echo_written"], monkeypatch)
        results, samples = theirs["results"], theirs["samples"]
        ours = {metric: getattr(result, name)[0] for metric, result in found.items()}
        assert ours == {
            "choice": pytest.approx(results["echo_choice"]["acc,none"], abs=1e-4),
            "norm": pytest.approx(sum(one["acc_norm"] for one in samples["echo_choice"][:10]) / 10, abs=1e-4),
            "written": pytest.approx(results["echo_written"]["exact_match,first-word"], abs=1e-4),
            "said": pytest.approx(results["echo_written"]["exact_match,as-said"], abs=1e-4),
        }
        said = [line[name]["answer"] for line in lines if line["row"].startswith("said document")]
        assert said == [one["resps"][0][0] for one in samples["echo_written"] if one["filter"] == "as-said"]

        assert len(set(said)) > 1
        chosen = [line[name]["answer"] for line in lines if line["row"].startswith("choice document")]
        assert chosen == [
            one["doc"]["choices"][max(range(4), key=lambda number: one["resps"][number][0][0])]
            for one in samples["echo_choice"]
        ]
        assert len(set(chosen)) > 1
    assert {name: result.examples for name, result in found.items()} == {
        "choice": 24, "norm": 10, "written": 24, "said": 24,
    }  # fmt: skip
    assert all(result.difference is not None for result in found.values())
    assert any(line["base"]["answer"] != line["tuned"]["answer"] for line in lines)


def test_turns_are_written_by_the_chat_template(tmp_path: Path, talkative: Path, monkeypatch: pytest.MonkeyPatch):
    """As lm_eval --apply_chat_template, with the job's system prompt."""
    tasks = task_folder(tmp_path / "tasks", CHOICES, WRITTEN)
    metrics = tuple(
        a_metric(tasks, name, name.replace("_", "-"), chat_template=True) for name in ("echo_choice", "echo_written")
    )
    run = a_run(
        tmp_path, model=talkative, data=conversations(tmp_path / "train.jsonl", rows=40), max_steps=2, chat=Chat(system_prompt="Be brief."),
        evaluation=Evaluation(fraction=0.2, max_examples=12, metrics=metrics),
    )  # fmt: skip
    outcome = trained(run, tmp_path)
    theirs = by_itself(
        talkative, tasks, ["echo_choice", "echo_written"], monkeypatch, apply_chat_template=True, system_instruction="Be brief."
    )["samples"]  # fmt: skip

    assert outcome.evaluation is not None
    lines = answers_at(tmp_path / "out")
    ours = {name: [one for one in lines if one["row"].startswith(name)] for name in ("echo-choice", "echo-written")}
    assert [one["prompt"] for one in ours["echo-written"]] == [
        one["arguments"][0][0] for one in theirs["echo_written"] if one["filter"] == "first-word"
    ]
    assert ours["echo-written"][0]["prompt"].startswith("<|im_start|>system\nBe brief.<|im_end|><|im_start|>user\n")
    assert [one["base"]["answer"] for one in ours["echo-written"]] == [
        one["resps"][0][0] for one in theirs["echo_written"] if one["filter"] == "first-word"
    ]
    assert [one["scores"]["echo-choice"]["base"] for one in ours["echo-choice"]] == [
        one["acc"] for one in theirs["echo_choice"]
    ]


def test_what_the_base_model_said_survives_a_preemption(tmp_path: Path, talkative: Path):
    """A resumed run holds other weights, and compares with what was kept beside the checkpoints."""
    tasks = task_folder(tmp_path / "tasks", CHOICES)
    evaluation = Evaluation(fraction=0.2, max_examples=12, metrics=(a_metric(tasks, "echo_choice"),))
    data = conversations(tmp_path / "train.jsonl", rows=40)
    run = a_run(tmp_path, model=talkative, data=data, evaluation=evaluation, method="full", learning_rate=1e-2)
    whole, resumed = whole_and_resumed(run, tmp_path)

    assert whole.evaluation is not None
    assert resumed.evaluation == whole.evaluation
    (metric,) = whole.evaluation.metrics
    assert metric.base != metric.tuned


def test_tasks_show_signs_of_life_and_stop_when_asked(tmp_path: Path, talkative: Path):
    """Each batch and each token beats; a run that is told to stop does not ask to the end, and keeps nothing half."""
    tasks = task_folder(tmp_path / "tasks", CHOICES, WRITTEN)
    metrics = (a_metric(tasks, "echo_choice", "choice"), a_metric(tasks, "echo_written", "written", limit=4))
    evaluation = Evaluation(fraction=0.2, max_examples=12, metrics=metrics)
    run = a_run(tmp_path, model=talkative, data=conversations(tmp_path / "train.jsonl", rows=40), evaluation=evaluation)
    beats: list[str] = []
    going = iter([True] * 5 + [False] * 100)
    with local_node(tmp_path):
        tools = bench(tmp_path, run)
        session = prepare(run, tools)
        questions = session.held_out.questions
        same = {"trainer": session.loop.trainer, "at_once": 2, "max_new_tokens": 4, "stops": (), "row_tokens": 64}
        whole = questions.tasks.ask(
            Interview(
                **same, beat=lambda: beats.append("token"), keep_going=lambda: bool(beats.append("batch")) or True
            )
        )
        cut = questions.tasks.ask(Interview(**same, beat=lambda: None, keep_going=lambda: next(going)))

    assert whole is not None
    assert [len(documents) for documents in whole] == [24, 4]
    assert beats.count("batch") >= 96 * 10 // (4 * 64) + 2
    assert beats.count("token") > 2 * 4
    assert cut is None
