"""`finetune import`: jobs of other tools, whole; what cannot be trained here is refused by name."""

import json
from pathlib import Path

import pytest
from finetune_operator.cli.import_job import command
from finetune_operator.cli.importing.formats import imported
from finetune_operator.cli.manifest_file import parse_job
from finetune_operator.errors import FinetuneError

from tests.golden.imports import GOLDEN, INPUTS, NAMES, written


@pytest.mark.parametrize("name", NAMES)
def test_a_job_of_another_tool_reads_as_before(name: str):
    """`make goldens` writes them anew. Each is valid as it is, and no setting of the other tool is lost without a word."""
    text = written(name)

    assert text == (GOLDEN / f"{Path(name).stem}.yaml").read_text()
    assert parse_job(text).spec.datasets


def test_every_golden_has_its_input():
    """One of each tool at least."""
    assert len(NAMES) >= 7
    assert sorted(path.stem for path in GOLDEN.iterdir()) == sorted(Path(name).stem for name in NAMES)


ONLY = "a FineTuneJob trains on answers (objective sft) or plain text (objective cpt)"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("base_model: o/m\nrl: dpo\ndatasets: [{path: o/d}]\n", f"it trains on preferences or rewards (dpo); {ONLY}"),
        (
            "base_model: o/m\ndatasets: [{path: o/d, type: orpo.chat_template}]\n",
            f"datasets[0] is of type orpo.chat_template, which holds preferences; {ONLY}",
        ),
        ("model_name_or_path: o/m\nstage: kto\n", f"stage kto trains on preferences or rewards; {ONLY}"),
        (
            "model_name_or_path: o/m\nstage: sft\nfinetuning_type: freeze\n",
            "finetuning_type freeze does not exist here: use lora or full",
        ),
        (
            "apiVersion: kaito.sh/v1beta1\nkind: Workspace\nmetadata: {name: a}\ninference: {preset: {name: phi-4}}\n",
            "this Workspace serves a model (inference) and does not tune one: there is nothing to import",
        ),
        (
            json.dumps({"model": "gpt-4o", "training_file": "f", "method": {"type": "dpo"}}),
            f"method dpo trains on preferences or rewards; {ONLY}",
        ),
        (
            "apiVersion: kubeflow.org/v1\nkind: PyTorchJob\nmetadata: {name: a}\nspec: {x: [{command: [python, mnist.py]}]}\n",
            "its trainer is not known: TRL's flags (--model_name_or_path), LLaMA-Factory's, train() of the Kubeflow SDK and the "
            "runtimes of torchtune are read. If it is a script with a configuration of its own, import that file",
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n",
            "in.yaml holds Pod, which is not a job of a known tool: KAITO Workspaces, PyTorchJobs and TrainJobs with known trainers, "
            "axolotl, LLaMA-Factory, TRL and OpenAI fine-tuning jobs are read",
        ),
        ("", "in.yaml holds nothing, which is not a job of a known tool: KAITO Workspaces, PyTorchJobs and TrainJobs with known trainers, "
             "axolotl, LLaMA-Factory, TRL and OpenAI fine-tuning jobs are read"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_job_here_is_refused(text: str, said: str):
    """Nothing that is learned is changed in silence."""
    with pytest.raises(FinetuneError) as refused:
        imported(text, Path("in.yaml"), "")

    assert str(refused.value) == said


def test_options_fill_in_what_only_the_user_knows(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Then nothing is left to fill in, and the next step is named."""
    to = tmp_path / "job.yaml"
    command(
        INPUTS / "openai.json", model="hf://org/open", data="s3://team/chats.jsonl", destination="s3://team/out",
        name="support", to=str(to),
    )  # fmt: skip
    job = parse_job(to.read_text())

    assert (job.name, job.spec.model.source, job.spec.datasets[0].source, job.spec.output.destination) == (
        "support", "hf://org/open", "s3://team/chats.jsonl", "s3://team/out",
    )  # fmt: skip
    assert capsys.readouterr().out.splitlines() == [
        f"wrote {to} from {INPUTS / 'openai.json'} (OpenAI); settings: 1 that differ, 0 chosen by the planner, 0 without an "
        "equivalent (see its comments)",
        "Fill in:",
        "  spec.evaluation.source.source: download file-held-out from the API's files, upload it, and set its URI",
        "",
        "Next:",
        f"  finetune plan -f {to}  # see memory, time and cost",
    ]
    with pytest.raises(FinetuneError, match="exists: pass --force to replace it"):
        command(INPUTS / "openai.json", to=str(to))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path):
    """Several may be imported in one script."""
    (tmp_path / "lora.yml").write_text("base_model: o/m\nlearning_rate: 1e-4\nlearning_rate: 2e-5\n")

    with pytest.raises(FinetuneError) as caught:
        command(tmp_path / "lora.yml", to="-")

    assert str(caught.value) == (
        f"{tmp_path}/lora.yml: learning_rate is written in line 2 and again in line 3: keep one of them"
    )
