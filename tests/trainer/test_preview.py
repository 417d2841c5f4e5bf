"""The preview: what people see of their data before a GPU is asked for."""

from typing import Any

import numpy as np
import pytest
from finetune_operator.cli import data as command
from finetune_operator.cli import trainer_here
from finetune_operator.errors import FinetuneError
from finetune_trainer.preflight.preview_text import histogram, marked, preview_text

from tests.trainer.data_inputs import a_request, chats, jsonl, model, prepared_rows, tokenizer

JOB = """
apiVersion: finetune.dev/v1alpha1
kind: FineTuneJob
metadata: {name: bot, namespace: team-a}
spec:
  model: {source: pvc://data/model}
  datasets: [{source: pvc://data/rows.jsonl}]
  output: {destination: pvc://data/out}
"""


def row(words: Any, *parts: tuple[str, bool]) -> tuple[Any, Any]:
    """ids and labels of some text, trained or not."""
    ids = [(token, learned) for text, learned in parts for token in words.encode(text, add_special_tokens=False)]
    return np.array([one for one, _ in ids]), np.array([one if learned else -100 for one, learned in ids])


def test_trained_tokens_are_marked_and_escapes_of_strangers_are_shown():
    """A row cannot recolour or clear the terminal of whoever looks at it."""
    words = tokenizer()
    ids, labels = row(words, ("hello \x1b[2J", False), ("fine<|im_end|>", True))

    assert marked(ids, labels, words, ("[", "]")) == "hello \\x1b[2J[fine<|im_end|>]"


def test_long_rows_lose_their_middle():
    """The beginning and the end say most."""
    words = tokenizer()
    ids, labels = row(words, ("x" * 500, True))

    assert marked(ids, labels, words, ("[", "]")) == f"[{'x' * 200}]\n  ... 100 tokens ...\n[{'x' * 200}]"


def test_the_histogram_has_a_bar_for_each_range():
    """The longest bar is the most frequent range."""
    assert histogram(np.array([10, 10, 10, 10, 12])) == [
        "     10 - 11             4 ########################################",
        "     11 - 12             1 ##########",
    ]


def test_the_preview_counts_and_shows_rows(tmp_path, monkeypatch):
    """Whole text for a small data set with a duplicate."""
    monkeypatch.setenv("FINETUNE_ALLOW_FILE", "1")
    words = tokenizer()
    prepared = prepared_rows(a_request(jsonl(tmp_path / "a.jsonl", [*chats(1), *chats(1)])), words, tmp_path / "work")

    text = preview_text(prepared, words, title="team-a/bot", colour=True)

    length = prepared.train.longest
    trained = prepared.train.trained_tokens
    assert text.splitlines() == [
        "Data of team-a/bot: green tokens are trained, the rest is context.",
        "",
        "rows read               2",
        "rows to train           1",
        "rows held out           0",
        f"tokens                  {length} ({100 * trained / length:.0f} % trained)",
        "sequence length         64",
        f"median, p99, longest    {length}, {length}, {length}",
        "packed sequences        1",
        "exact duplicates        1 (left out)",
        "rows truncated          0",
        "rows too long, left out 0",
        "rows with nothing left  0 (left out)",
        "columns read            messages as conversation",
        "",
        "Row lengths in tokens",
        f"{int(length - 0.5):>7} - {int(length + 0.5):<7} {1:>8} {'#' * 40}",
        "",
        f"--- row 1: {length} tokens, {trained} trained ---",
        "<|im_start|>user",
        "hello 0<|im_end|>",
        "<|im_start|>assistant",
        "\x1b[32mfine 0 thanks<|im_end|>\x1b[0m",
        "",
    ]


@pytest.fixture
def volume(tmp_path):
    """A folder that stands for the claim `data`, and the job's file."""
    model(tmp_path / "data" / "model")
    jsonl(tmp_path / "data" / "rows.jsonl", chats(30))
    (tmp_path / "job.yaml").write_text(JOB)
    return tmp_path


def test_the_command_runs_preflights_own_code_on_this_machine(volume, capfd):
    """`finetune data preview -f job.yaml --claim data=FOLDER`, as a user types it; nothing is written to the output."""
    with pytest.raises(command.typer.Exit) as ended:
        command.preview(file=volume / "job.yaml", claim=[f"data={volume / 'data'}"], colour=False)

    shown = capfd.readouterr().out
    assert (ended.value.exit_code, shown.splitlines()[0]) == (
        0, "Data of bot: \u27e6tokens in such brackets\u27e7 are trained, the rest is context."
    )  # fmt: skip
    assert "rows to train           24" in shown
    assert not (volume / "data" / "out").exists()


def test_a_file_on_this_machine_needs_no_job(volume, capfd):
    """`finetune data preview "my rows.csv" --model FOLDER`: the name may hold what a URI may not."""
    (volume / "my rows.csv").write_text("question;answer\n" + "".join(f"hello {n};fine\n" for n in range(30)))

    with pytest.raises(command.typer.Exit) as ended:
        command.preview(data=str(volume / "my rows.csv"), model=str(volume / "data" / "model"), colour=False)

    shown = capfd.readouterr().out
    assert (ended.value.exit_code, "rows to train           24" in shown) == (0, True)
    assert "<|im_start|>assistant\n\u27e6fine<|im_end|>\u27e7" in shown


def test_what_is_missing_on_the_command_line_is_said(tmp_path):
    """Neither data nor job, both, no model, no file."""

    def said(**given):
        with pytest.raises(FinetuneError) as refusal:
            command.preview(**given)
        return str(refusal.value)

    either = "name the data and its model (finetune data preview qa.csv --model FOLDER), or a job by -f"
    assert said() == either
    assert said(data="x", file=tmp_path / "job.yaml") == either
    assert said(data="x") == (
        "--model is missing: rows are shown as its tokenizer writes them; a folder or hf://ORG/NAME"
    )
    assert said(data="gone.csv", model=str(tmp_path)) == "gone.csv does not exist"


def test_the_command_says_how_to_stand_in_for_a_claim(volume, capfd):
    """Outside a cluster nothing is mounted."""
    with pytest.raises(command.typer.Exit) as ended:
        command.preview(file=volume / "job.yaml", colour=False)

    assert (ended.value.exit_code, capfd.readouterr().err.splitlines()[-2:]) == (
        1,
        [
            "InvalidSpec: 'pvc://data/model': the PersistentVolumeClaim data is not mounted in this Pod (mounted: none)",
            "The job uses a PersistentVolumeClaim, a Secret or a ConfigMap: here each is a folder, named by --claim NAME=FOLDER, "
            "--secret NAME=FOLDER or --config-map NAME=FOLDER.",
        ],
    )
    with pytest.raises(FinetuneError, match="--claim 'data' is not NAME=FOLDER with an existing folder"):
        command.preview(file=volume / "job.yaml", claim=["data"], colour=False)


def test_a_job_that_mounts_nothing_is_told_nothing_of_mounts(volume, capfd, monkeypatch):
    """What was wrong stands alone."""
    monkeypatch.setenv("FINETUNE_ALLOW_FILE", "1")
    (volume / "job.yaml").write_text(JOB.replace("pvc://data/", f"file://{volume}/gone/"))

    with pytest.raises(command.typer.Exit):
        command.preview(file=volume / "job.yaml", colour=False)
    assert capfd.readouterr().err.splitlines()[-1] == (
        f"ModelNotFound: the model file://{volume}/gone/model does not exist: correct spec.model.source or spec.model.revision"
    )


def test_the_command_names_the_extra_that_is_missing(monkeypatch):
    """The operator's own installation has no trainer."""
    monkeypatch.setattr(trainer_here, "NEEDED", ("transformers", "no_such_library"))

    with pytest.raises(FinetuneError) as refusal:
        trainer_here.check_installed("data preview")

    assert str(refusal.value) == (
        "data preview needs no_such_library, which is not installed: pip install 'finetune-operator[preflight]'"
    )
