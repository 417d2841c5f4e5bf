"""What data is, before there is a job: format, columns and rows by the code that trains them; `finetune init` on top of it."""

from pathlib import Path

import pytest
from finetune_operator.cli import init
from finetune_operator.cli.manifest_file import parse_job
from finetune_operator.cli.plan import command as plan
from finetune_operator.errors import FinetuneError

from tests.trainer.data_inputs import chats, jsonl, model


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("KUBECONFIG", "FINETUNE_CLUSTER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FINETUNE_STATE", str(tmp_path))
    return tmp_path


def test_columns_are_found_by_their_values_and_written_into_the_job(folder: Path, capsys: pytest.CaptureFixture[str]):
    """German names say nothing to the tables of names; the texts do. The job validates, and its comment asks to check."""
    model(folder / "tiny")
    rows = "".join(f"Frage {n}?,Antwort {n} ist so.\n" for n in range(40))
    (folder / "qa.csv").write_text(f"Frage,Antwort\n{rows}{rows}")
    init.command("qa.csv", model="tiny")
    job = parse_job((folder / "job.yaml").read_text())
    (dataset,) = job.spec.datasets
    printed = capsys.readouterr().out.splitlines()

    assert job.spec.model.source == f"file://{folder}/tiny"
    assert dataset.columns is not None
    assert dataset.columns.model_dump(exclude_none=True) == {"prompt": "Frage", "completion": "Antwort"}
    assert printed[1] == (
        "  data    qa.csv, 40 rows: Frage is the prompt, Antwort the answer (guessed from the values: check it)"
    )


def test_the_plan_of_local_data_states_what_was_counted(folder: Path, capsys: pytest.CaptureFixture[str]):
    """With a model on this machine tokens are counted by its tokenizer, so that nothing about the data is assumed."""
    model(folder / "tiny")
    jsonl(folder / "chat.jsonl", [*chats(40), *chats(10)])
    init.command("chat.jsonl", model="tiny")
    capsys.readouterr()
    plan(file=folder / "job.yaml", pools="built-in")
    lines = capsys.readouterr().out.splitlines()
    data = lines.index(next(line for line in lines if line.startswith("data")))

    assert [line.strip() for line in lines[data : data + 2]] == [
        "data        32 training rows, 8 held out; 942 tokens, up to 64 per row",
        "rows and tokens counted in the data on this machine",
    ]


def test_without_the_model_tokens_are_assumed_and_said_to_be(folder: Path, capsys: pytest.CaptureFixture[str]):
    """Rows can be counted without a tokenizer."""
    jsonl(folder / "chat.jsonl", chats(100))
    init.command("chat.jsonl", model="HuggingFaceTB/SmolLM2-135M-Instruct")
    capsys.readouterr()
    plan(file=folder / "job.yaml", pools="built-in")
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]

    assert "100 rows counted in the data on this machine" in lines
    assert (
        "assumed: 5 tokens per row, at 4 characters per token; preflight counts them, or pass --tokens-per-example"
        in lines
    )


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("pairs.jsonl", '{"prompt": "a", "chosen": "b", "rejected": "c"}\n', "prefer"),
        ("empty.csv", "", "no rows"),
        ("rows.zip", "PK", "archives are not read"),
    ],
)
def test_data_that_cannot_be_trained_is_refused_before_a_job_is_written(folder: Path, name: str, text: str, said: str):
    """In the words of preflight, which say what to do."""
    (folder / name).write_text(text)
    with pytest.raises(FinetuneError) as error:
        init.command(name)

    assert said in str(error.value)
    assert not (folder / "job.yaml").exists()


def test_documents_become_a_job_of_continued_pretraining(folder: Path, capsys: pytest.CaptureFixture[str]):
    """Plain text has no answers to learn."""
    (folder / "book.md").write_text("A long story.\n" * 50)
    init.command("book.md", to="-")

    assert parse_job(capsys.readouterr().out).spec.objective == "cpt"


@pytest.mark.parametrize(
    ("answers", "labels"),
    [
        (("billing", "support"), ("billing", "support")),
        (("billing", "support", ""), ()),
        (("the same",), ()),
        (tuple(f"answer {n}" for n in range(9)), ()),
        (("yes", "no " * 40), ()),
    ],
)
def test_answers_that_come_again_and_again_are_labels(folder: Path, answers: tuple[str, ...], labels: tuple[str, ...]):
    """40 rows: two answers are a classification; one answer, an empty or a long one, or one for every four rows are none."""
    rows = [{"prompt": f"question {n}", "completion": answers[n % len(answers)]} for n in range(40)]
    jsonl(folder / "data.jsonl", rows)
    init.command("data.jsonl", model="HuggingFaceTB/SmolLM2-135M-Instruct")
    offered = [line for line in (folder / "job.yaml").read_text().splitlines() if "metrics: [{type: label}]" in line]

    assert [line.partition("answers: ")[2] for line in offered] == ([", ".join(labels)] if labels else [])
