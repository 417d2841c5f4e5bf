"""Parts of text in one message: they follow each other as they stand, but two sentences do not run into each other."""

from typing import Any

import pytest
from finetune_trainer.data.formats.messages import turns_of
from finetune_trainer.data.formats.roles import TurnForm


def messages_of(*turns: Any) -> list[dict[str, Any]]:
    """What is made of some turns."""
    return turns_of(list(turns), TurnForm()).messages


PARTED = [
    (["how red.", "How blue?"], "how red.\nHow blue?"),
    (["<file>red</file>", "Say it."], "<file>red</file>\nSay it."),
    (["It is, ", "red", ". Fine."], "It is, red. Fine."),
    (["Fine.", "\n\nRed."], "Fine.\n\nRed."),
    (["the U.", "S. Senate"], "the U.S. Senate"),
    (["Java", "Script 3.", "14"], "JavaScript 3.14"),
]


@pytest.mark.parametrize(("texts", "whole"), PARTED, ids=[whole for _, whole in PARTED])
def test_parts_of_text_follow_each_other_but_two_sentences_do_not_touch(texts, whole):
    """Answers are parted anywhere, as for citations; blocks of a prompt are paragraphs."""
    parts = [{"type": "text", "text": text} for text in texts]

    assert messages_of({"role": "user", "content": parts}) == [{"role": "user", "content": whole}]
