"""Prompt and answer where the model has no chat template: written as they are, which is said with an example."""

from pathlib import Path
from typing import Any

import pytest
from finetune_contract import Chat, Dataset

from tests.trainer.data_inputs import a_request, at, jsonl, prepared_rows, texts, tokenizer

pytestmark = pytest.mark.usefixtures("local_files")


def written(
    folder: Path, *, chat: Chat | None = None, objective: str = "sft", **parts: Any
) -> tuple[str, tuple[str, ...]]:
    """How the first row is written, and the warnings about how rows are."""
    file = jsonl(folder / "rows.jsonl", [{"question": f"how are you {n}?", "answer": f"fine {n}"} for n in range(12)])
    words = tokenizer(None, eos="<|endoftext|>")
    request = a_request(file, datasets=(Dataset(location=at(file), **parts),), chat=chat or Chat(), objective=objective)
    prepared = prepared_rows(request, words, folder / "work")
    told = tuple(warning for warning in prepared.warnings if "chat template" in warning)
    return min(whole for whole, _ in texts(prepared.folder / "train.arrow", words)), told


def said_of(example: str) -> tuple[str, ...]:
    """The warning with an example."""
    return (
        "the model has no chat template, so 12 of 12 rows are written as text, the answer right behind the prompt, such as "
        f"{example}: set chat.template: chatml to write them as turns, or end the prompts (or promptTemplate) with what is to stand "
        'between, such as "\\nAnswer: "',
    )


def test_an_answer_right_behind_its_prompt_is_said(tmp_path: Path) -> None:
    """A model that was trained so would need prompts without anything behind them."""
    assert written(tmp_path) == ("how are you 0?fine 0<|endoftext|>", said_of("'how are you 0?fine 0'"))


def test_the_remedies_work(tmp_path: Path) -> None:
    """What ends the promptTemplate stands between prompt and answer, with its white space; chatml writes turns."""
    row, told = written(tmp_path, prompt_template="{question}\nAnswer: ")

    assert (row, told) == ("how are you 0?\nAnswer: fine 0<|endoftext|>", said_of("'how are you 0?\\nAnswer: fine 0'"))
    assert written(tmp_path, chat=Chat(template="chatml"))[1] == ()
