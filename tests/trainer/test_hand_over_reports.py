"""What others report of results that were put together from a checkpoint: would a model that is handed over have the fault?"""

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from finetune_contract import ENV_TERMINATION_LOG, parse_outcome
from finetune_trainer.exporting.command import exported
from finetune_trainer.exporting.export import export
from transformers import AutoTokenizer

from tests.trainer.running import IN_PROCESS, trained
from tests.trainer.test_hand_over import asked
from tests.trainer.tiny import TEMPLATE, a_run, conversations, tiny_model

pytestmark = [*IN_PROCESS, pytest.mark.usefixtures("local_files")]

SHORT: dict[str, Any] = {"method": "full", "max_steps": 2, "prompts": (), "baseline": False}


def test_templates_in_a_folder_of_their_own_are_published(tmp_path: Path) -> None:
    """transformers puts those beside the default one there (huggingface/transformers#36588): Command R's for tools."""
    base = tiny_model(tmp_path / "base")
    templates = {"default": TEMPLATE, "tool_use": "{{ tools }}" + TEMPLATE}
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = templates
    tokenizer.save_pretrained(base)
    data = conversations(tmp_path / "train.jsonl", rows=40)
    run = replace(a_run(tmp_path, model=base, data=data, **SHORT), hand_over=True)
    assert trained(run, tmp_path).reason == "Trained"

    export(asked(run), tmp_path / "pod")

    assert AutoTokenizer.from_pretrained(tmp_path / "out/model").chat_template == templates
    manifest = json.loads((tmp_path / "out/finetune-manifest.json").read_text())
    assert "additional_chat_templates/tool_use.jinja" in manifest["files"]


def test_a_form_that_fails_does_not_hide_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Merged and not quantised, it was called lost. A Pod that is killed at the form has said by then what is published."""
    monkeypatch.setenv(ENV_TERMINATION_LOG, str(tmp_path / "termination"))
    data = conversations(tmp_path / "train.jsonl", rows=40)
    run = replace(a_run(tmp_path, model=tiny_model(tmp_path / "base"), data=data, **SHORT), hand_over=True)
    assert trained(run, tmp_path).reason == "Trained"

    failed = exported(asked(run, "gguf-q8_0"), tmp_path / "pod")

    killed = parse_outcome((tmp_path / "termination").read_text())
    assert killed is not None
    assert (failed.outcome, failed.reason) == ("Failed", "ExportFailed")
    for said in (failed, killed):
        assert [(artifact.kind, artifact.uri) for artifact in said.artifacts] == [
            ("model", f"file://{tmp_path}/out/model")
        ]
        assert said.evaluation is not None


def test_a_pod_whose_predecessor_still_ran_finds_the_model_published(tmp_path: Path) -> None:
    """A node does not answer, its Pod is given up and goes on: it publishes, and clears away what the next Pod is about to read."""
    data = conversations(tmp_path / "train.jsonl", rows=40)
    run = replace(a_run(tmp_path, model=tiny_model(tmp_path / "base"), data=data, **SHORT), hand_over=True)
    assert trained(run, tmp_path).reason == "Trained"
    left = tmp_path / "out/.checkpoints/result-attempt-0"
    shutil.copytree(left, tmp_path / "left")
    first = export(asked(run), tmp_path / "first")
    manifest = (tmp_path / "out/finetune-manifest.json").read_text()
    (tmp_path / "out/finetune-manifest.json").unlink()
    shutil.copytree(tmp_path / "left", left)
    (left / "COMPLETE").unlink()
    os.mkfifo(left / "COMPLETE")  # who reads it waits: by then it has found no manifest

    with ThreadPoolExecutor() as pool:
        second = pool.submit(export, asked(run, number=1), tmp_path / "second")
        with (left / "COMPLETE").open("w"):  # nothing is read
            (tmp_path / "out/finetune-manifest.json").write_text(manifest)

        assert second.result().artifacts == first.artifacts
    assert not left.exists()
