"""The job.yaml that `finetune init` writes, for data as it was found."""

from dataclasses import replace

import pytest
from finetune_operator.cli.init import asked, command
from finetune_operator.cli.init_draft import location, model_location
from finetune_operator.cli.init_text import Dataset, Draft, job_text, name_of, said
from finetune_operator.cli.manifest_file import parse_job
from finetune_operator.errors import FinetuneError

PAIR = Dataset(
    shown="qa.csv",
    source="file:///home/me/qa.csv",
    rows=285,
    columns={"prompt": "Frage", "completion": "Antwort: kurz"},
    named={"columns": {"prompt": "Frage", "completion": "Antwort: kurz"}},
    guessed=True,
    first_prompt='Was ist "das"?\n',
)


def a_draft(dataset: Dataset = PAIR, **changes: str) -> Draft:
    usual = {
        "name": "qa", "file": "job.yaml", "model": "hf://org/tiny", "model_note": "small", "objective": "sft",
        "output": "file:///home/me/qa-adapter",
    }  # fmt: skip
    return Draft(dataset=dataset, **usual | changes)


def test_the_job_names_what_the_data_does_not_say():
    """Columns with their quotes where YAML needs them, what must be checked, and a question of the data as a sample."""
    assert job_text(a_draft()) == (
        """# Fine-tunes tiny on qa.csv.
#   finetune data preview -f job.yaml         see the rows as the model will
#   finetune plan -f job.yaml                 see memory, time and cost
#   finetune submit job.yaml                  run it
# Every field: docs/api.md, or `kubectl explain ftj.spec`.
apiVersion: finetune.dev/v1alpha1
kind: FineTuneJob
metadata:
  name: qa
spec:
  model:
    # small
    source: hf://org/tiny
  datasets:
    # 285 rows: Frage is the prompt, Antwort: kurz the answer.
    # The column names do not say which is which: check this choice.
    # file:// works on the local cluster only. On a shared cluster, upload it and write s3://BUCKET/KEY, gs://BUCKET/KEY or pvc://CLAIM/PATH.
    - source: file:///home/me/qa.csv
      columns: {prompt: Frage, completion: "Antwort: kurz"}
  # method: lora       # lora, qlora or full. Default: auto; the plan says why it chose one
  # training:
  #   epochs: 3
  #   learningRate: "2e-4"
  # evaluation: # by default 5 % of the rows are held out, and base and tuned model are compared on them
  #   gate: {minRelativeLossImprovement: "0.02"} # sets the condition Promoted if the loss improves by 2 %
  #   samples: # both models answer these after training
  #     prompts: ["Was ist \\"das\\"?"]
  # runPolicy:
  #   budget: {maxCostUSD: "20.00"}  # the job is suspended with a checkpoint when it has cost this much
  output:
    # A folder of this job's own.
    destination: file:///home/me/qa-adapter
"""
    )


BOOK = Dataset(shown="book.md", source="file:///home/me/book.md", rows=1, columns={"text": "text"})
UNREAD = Dataset(shown="s3://team/d.jsonl", source="s3://team/d.jsonl", not_read="no credentials")


@pytest.mark.parametrize(
    "draft", [a_draft(), a_draft(UNREAD), a_draft(BOOK, objective="cpt")], ids=["pair", "unread", "cpt"]
)
def test_the_job_is_valid_as_it_is_and_with_every_comment_taken_out(draft: Draft):
    """A reader takes the # off a suggestion and has a job that is still valid."""
    text = job_text(draft)
    fields = (
        "method",
        "training",
        "epochs",
        "learningRate",
        "evaluation",
        "gate",
        "samples",
        "prompts",
        "runPolicy",
        "budget",
    )
    lines = [
        line.replace("  # ", "  ", 1) if line.strip("# ").startswith(tuple(f"{name}:" for name in fields)) else line
        for line in text.splitlines()
    ]

    assert parse_job(text).name == "qa"
    assert parse_job("\n".join(lines)).spec.run_policy.budget is not None


def test_what_was_found_and_what_comes_next_is_printed():
    """One line for each part of the job, then three commands."""
    assert said(a_draft(), "lora on 1 x H100, about 1 min and $0.02 on the built-in pools") == [
        "wrote job.yaml",
        "  data    qa.csv, 285 rows: Frage is the prompt, Antwort: kurz the answer (guessed from the values: check it)",
        "  model   hf://org/tiny",
        "  plan    lora on 1 x H100, about 1 min and $0.02 on the built-in pools",
        "  result  file:///home/me/qa-adapter",
        "",
        "Next:",
        "  finetune data preview -f job.yaml         # see the rows as the model will",
        "  finetune plan -f job.yaml                 # see memory, time and cost",
        "  finetune submit job.yaml                  # run it",
    ]


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("/data/My QA (final).v2.csv", "my-qa-final"),
        ("hf://org/Chat_Data", "chat-data"),
        ("s3://bucket/train-*.jsonl", "train"),
        ("2024.csv", "fine-tune"),
        (f"/data/{'long-' * 20}.csv", ("long-" * 20)[:52].rstrip("-")),
    ],
)
def test_a_job_is_named_after_its_data(data: str, name: str):
    """Names of jobs are narrower than names of files."""
    assert name_of(data) == name


def test_init_never_waits_for_an_answer_in_a_pipe(monkeypatch: pytest.MonkeyPatch, tmp_path):
    """A script that forgets the file gets the command to type."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FinetuneError, match=r"^name the data: finetune init qa\.csv$"):
        asked("")


def test_an_existing_file_is_never_replaced_unasked(monkeypatch: pytest.MonkeyPatch, tmp_path):
    """Before anything else is done."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "job.yaml").write_text("mine")
    with pytest.raises(
        FinetuneError, match=r"^job\.yaml exists: pass --force to replace it, or --to with another name$"
    ):
        command("gone.csv")

    assert (tmp_path / "job.yaml").read_text() == "mine"


def test_places_that_a_job_cannot_name_are_refused(tmp_path, monkeypatch: pytest.MonkeyPatch):
    """With what to do."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my data.csv").write_text("a,b\n")
    (tmp_path / "empty").mkdir()

    def refusal(work, given):
        with pytest.raises(FinetuneError) as error:
            work(given)
        return str(error.value).replace(str(tmp_path), "HERE")

    assert [
        refusal(location, "gone.csv"), refusal(location, "my data.csv"), refusal(model_location, "empty"),
        refusal(model_location, "llama"),
    ] == [
        "gone.csv does not exist: name a file or folder on this machine, or hf://ORG/NAME",
        "HERE/my data.csv has a space or another character that a URI of a job cannot hold: rename it, or copy it to a path "
        "of letters, digits and . _ = + , ~ -",
        "empty has no config.json: name the folder of a model, or its name on the hub",
        "llama is neither a folder on this machine nor ORG/NAME on the hub",
    ]  # fmt: skip


def test_a_classification_is_offered_its_metric():
    """The answers are named, and what is written there is valid without its comment signs."""
    labels = ("billing", "defect\nhardware", "other", "sales", "support")
    text = job_text(a_draft(replace(PAIR, labels=labels)))
    offer = (
        "  #   metrics: [{type: label}] # how often each model chooses the right one of 5 answers: billing, defect hardware, other, "
        "sales, ..."
    )
    job = parse_job(text.replace("  # evaluation:", "  evaluation:").replace(offer, offer.replace("#", " ", 1)))

    assert offer in text.splitlines()
    assert job.spec.evaluation.metrics is not None
    assert [metric.type for metric in job.spec.evaluation.metrics] == ["label"]
    assert "metrics" not in job_text(a_draft())


def test_what_of_the_data_is_not_used_stands_in_the_job():
    """Whoever reads the file later sees which columns are dropped."""
    dropped = "qa.csv holds data that is not used: Quelle in 285 (of 285 rows)."

    assert job_text(a_draft(replace(PAIR, warnings=(dropped,)))).split("\n")[14:18] == [
        "    # 285 rows: Frage is the prompt, Antwort: kurz the answer.",
        "    # The column names do not say which is which: check this choice.",
        f"    # Warning: {dropped}",
        "    # file:// works on the local cluster only. On a shared cluster, upload it and write s3://BUCKET/KEY, gs://BUCKET/KEY or pvc://CLAIM/PATH.",
    ]
