"""chat.template: chatml on models that were not made for it: their beginning token, and marks that they have no token for."""

import pytest
from finetune_contract import Chat
from finetune_trainer.chat import Encoder, ready_tokenizer
from finetune_trainer.chat.conversation import Conversation
from tokenizers.processors import TemplateProcessing

from tests.trainer.data_inputs import letters, said, tokenizer

CHAT = Conversation(messages=said("hello", "fine"))
BEGINS = "{{ bos_token }}{% for m in messages %}[INST]{{ m['content'] }}[/INST]<|im_end|>{% endfor %}"


@pytest.mark.parametrize(
    ("template", "adds", "begins"),
    [(BEGINS, False, True), (None, True, True), (BEGINS, True, True), (None, False, False)],
    ids=["its own template writes it", "its tokenizer adds it", "both do", "neither does"],
)
def test_chatml_writes_the_beginning_token_of_models_that_expect_it(template, adds, begins):
    """Once. Gemma, for one, answers nonsense without it."""
    words = tokenizer(template, bos_token="<s>")
    if adds:
        words.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    chat = Chat(template="chatml")
    turns = ready_tokenizer(words, chat)
    [row] = Encoder(words, turns, chat).encode([CHAT])

    assert words.decode(row.input_ids).partition("<|im_start|>")[0] == ("<s>" if begins else "")


@pytest.mark.parametrize(
    ("template", "own"),
    [(None, ""), (BEGINS, ". The model's own template needs fewer rows")],
    ids=["a base model", "it has a template"],
)
def test_marks_of_chatml_that_are_ordinary_text_are_told(template, own):
    """Each message then costs a dozen tokens that mean nothing to the model yet."""
    words = letters(template)
    pieces = len(words("<|im_start|>")["input_ids"])

    assert ready_tokenizer(words, Chat(template="chatml")).warnings == (
        "chatml begins each message with <|im_start|>, which is not a token of this tokenizer: it is written as ordinary text of "
        f"{pieces} tokens, whose meaning the model has to learn{own}",
    )
    assert pieces > 1
