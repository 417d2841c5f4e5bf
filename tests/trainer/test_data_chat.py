"""What is learned of a conversation, for templates of all kinds. Most failed fine-tunes fail here."""

import json

import pytest
from finetune_contract import Chat
from finetune_trainer.chat import Encoder, ready_tokenizer
from finetune_trainer.chat.conversation import Conversation, RowRefused
from finetune_trainer.chat.encoding import Plain
from finetune_trainer.errors import UserError

from tests.trainer.data_inputs import BODY, letters, loaded, model, said, tokenizer, trained_text

MARKED = BODY.replace(
    "{{ m['content'] }}<|im_end|>",
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }}{% endgeneration %}"
    "{% else %}{{ m['content'] }}{% endif %}<|im_end|>",
)
INSTRUCT = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
    "{% elif m['role'] == 'system' %}{{ raise_exception('no system role') }}"
    "{% else %} {{ m['content'] | trim }}{{ eos_token }}{% endif %}{% endfor %}"
)
REASONING = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['role'] == 'assistant' and loop.last %}<think>\n</think>\n{% endif %}{{ m['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
REWRITING = (
    "{{ messages | length }} messages\n{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TERSE = BODY.replace(
    "{{ m['role'] }}\n{{ m['content'] }}", "{{ m['role'] }}{% if m['content'] %}\n{{ m['content'] }}{% endif %}"
)
CHAT = Conversation(messages=said("hello", "fine", "how are you", "thanks"))

LEARNED = [
    ("no markers", BODY, "assistant", "fine<|im_end|>thanks<|im_end|>"),
    ("no markers", BODY, "last", "thanks<|im_end|>"),
    (
        "no markers", BODY, "all",
        "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\nfine<|im_end|>\n"
        "<|im_start|>user\nhow are you<|im_end|>\n<|im_start|>assistant\nthanks<|im_end|>",
    ),
    ("markers without the end of turn", MARKED, "assistant", "fine<|im_end|>thanks<|im_end|>"),
    ("markers without the end of turn", MARKED, "last", "thanks<|im_end|>"),
    ("instruct", INSTRUCT, "assistant", " fine<|im_end|> thanks<|im_end|>"),
    ("reasoning in the last answer only", REASONING, "assistant", "fine<|im_end|><think>\n</think>\nthanks<|im_end|>"),
    ("chatml", None, "assistant", "fine<|im_end|>thanks<|im_end|>"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "template", "train_on", "learned"), LEARNED, ids=[f"{k}-{t}" for k, _, t, _ in LEARNED]
)
def test_exactly_the_answers_and_their_end_are_learned(kind, template, train_on, learned):
    """The end of turn belongs to the answer; headers, questions and the line break behind do not."""
    words = tokenizer(template, bos_token="<s>")
    chat = Chat(template="auto" if template else "chatml", train_on=train_on)

    assert trained_text(words, CHAT, chat) == learned


def test_a_template_that_rewrites_what_was_said_is_refused():
    """Its prefixes are not prefixes, so no mask would be right: the row says why and what to do."""
    words = tokenizer(REWRITING)

    with pytest.raises(RowRefused) as refusal:
        trained_text(words, CHAT)

    assert str(refusal.value) == (
        "the chat template writes what comes before message 2 differently once the answer is there, so the part to learn "
        "cannot be determined: use chat.trainOn: last, or chat.template: chatml"
    )


def test_an_empty_answer_of_which_a_template_writes_nothing_is_refused_as_that():
    """Nothing is rewritten, so a remedy against rewriting would not help."""
    with pytest.raises(RowRefused) as refusal:
        trained_text(tokenizer(TERSE), Conversation(messages=said("hello", "")))

    assert str(refusal.value) == (
        "an answer is empty, and the chat template writes nothing there that could be learned: remove the row, or write the answer"
    )


FORGETFUL = BODY.replace("{{ m['role'] }}", "{% if m['role'] == 'system' %}{% continue %}{% endif %}{{ m['role'] }}")
KIND = "put the system text in front of the first question, or set chat.template: chatml"


@pytest.mark.parametrize(
    ("template", "told"),
    [
        (INSTRUCT, f"the chat template refuses it: no system role; {KIND}"),
        (FORGETFUL, f"the chat template leaves out what message 1 (system) says: {KIND}"),
    ],
    ids=["refused", "left out"],
)
def test_a_template_without_a_system_role_is_told_with_what_helps(template, told):
    """The words of the template's author reach the user, and what is named is then learned from."""
    words = tokenizer(template, bos_token="<s>")
    system = {"role": "system", "content": "be kind"}

    with pytest.raises(RowRefused) as refusal:
        trained_text(words, Conversation(messages=[system, *said("hello", "fine")]))

    assert str(refusal.value) == told
    assert trained_text(words, Conversation(messages=said("be kind\n\nhello", "fine"))).strip() == "fine<|im_end|>"


def test_what_a_template_refuses_besides_the_system_role_is_not_blamed_on_it():
    """Text in front of the first question would be refused next."""
    picky = "{% if messages[-1]['role'] != 'system' %}{{ raise_exception('never') }}{% endif %}"
    messages = [{"role": "system", "content": "be kind"}, *said("hello", "fine")]

    with pytest.raises(RowRefused) as refusal:
        trained_text(tokenizer(picky), Conversation(messages=messages))

    assert str(refusal.value) == (
        "the chat template refuses it: never; correct or remove such rows, or set chat.template: chatml"
    )


def test_only_answers_of_the_completion_are_learned():
    """A prompt in messages may hold earlier answers: they are context."""
    row = Conversation(messages=said("hello", "fine", "how are you", "thanks"), first_learned=3)

    assert trained_text(tokenizer(), row) == "thanks<|im_end|>"


def test_tool_calls_are_written_and_learned_as_they_are():
    """Arguments keep their types and get no nulls."""
    template = BODY.replace(
        "{{ m['content'] }}",
        "{{ m['content'] }}{% for c in m.tool_calls or [] %}{{ c.function.name }}{{ c.function.arguments | tojson }}{% endfor %}",
    )
    call = {"function": {"name": "look", "arguments": {"days": 3, "where": {"city": "red"}}}}
    messages = [
        *said("hello"),
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "blue"},
    ]

    learned = trained_text(tokenizer(template), Conversation(messages=messages, tools=[{"name": "look"}]))

    assert learned == "look" + json.dumps({"days": 3, "where": {"city": "red"}}) + "<|im_end|>"


def test_a_conversation_without_an_answer_teaches_nothing():
    """Such rows are counted as masked later on."""
    assert trained_text(tokenizer(), Conversation(messages=said("hello"))) == ""


def test_plain_text_ends_once_and_a_prompt_is_context():
    """bos and eos are there exactly once, also where the text brings its own."""
    words = tokenizer(None, eos="<|endoftext|>")

    assert trained_text(words, Plain(text="hello fine", learned_from=len("hello"))) == " fine<|endoftext|>"
    assert trained_text(words, Plain(text="hello<|endoftext|>")) == "hello<|endoftext|>"
    assert trained_text(words, Plain(text="hello  ", learned_from=len("hello"))) == ""


def test_a_doubled_bos_is_removed():
    """The template writes it, and so did whoever made the data."""
    words = tokenizer("{{ bos_token }}" + BODY.replace("<|im_start|>", "", 1), bos_token="<s>")
    chat = Chat(train_on="all")
    row = Conversation(messages=[{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}])
    encoder = Encoder(words, ready_tokenizer(words, chat), chat)
    doubled = encoder.encode([row, Conversation(messages=[{"role": "<s>", "content": "x"}, *row.messages])])

    once, twice = [result.input_ids.tolist() for result in doubled]
    assert (once[0], once.count(1), twice[0], twice.count(1)) == (1, 1, 1, 1)


def test_an_end_of_turn_at_which_the_base_model_does_not_stop_is_learned(tmp_path):
    """The base models of some families have a chat template whose end of turn their generation_config does not know."""
    words = loaded(model(tmp_path / "m", stops=[2]))

    assert trained_text(words, CHAT) == "fine<|im_end|>thanks<|im_end|>"


@pytest.mark.parametrize(
    ("end", "said"),
    [
        ("", "'\\n', which is not a token of its own"),
        ("<|stop|>", "'<|stop|>', which is not a token of this tokenizer but several pieces of text"),
    ],
)
def test_an_end_of_turn_that_is_not_a_token_is_refused_as_it_is_read(tmp_path, end, said):
    """Generation could not stop there. Byte-level BPE stores a line break as another letter, which nobody finds in a template."""
    words = loaded(model(tmp_path / "m", made=tokenizer(BODY.replace("<|im_end|>", end))))

    with pytest.raises(UserError) as refusal:
        trained_text(words, CHAT)

    assert refusal.value.reason == "ModelUnsupported"
    assert refusal.value.message == (
        f"the chat template ends an answer with {said}, so generation could not stop there (it stops at <|im_end|>): the tuned "
        "model would never stop. Set chat.template to chatml, or use a template that ends each answer with one token of the model"
    )
    assert trained_text(words, CHAT, Chat(template="chatml")) == "fine<|im_end|>thanks<|im_end|>"


def test_chatml_ends_turns_where_generation_stops(tmp_path):
    """No new token is needed: the model's own end of text closes a turn."""
    words = loaded(model(tmp_path / "m", stops=[2], made=tokenizer(None, eos="<|endoftext|>")))

    assert trained_text(words, CHAT, Chat(template="chatml")) == "fine<|endoftext|>thanks<|endoftext|>"
    assert ready_tokenizer(words, Chat(template="chatml")).stop_ids == {2}


def test_a_base_model_without_a_template_must_be_told_one():
    """Guessing a template would train something that no server applies."""
    with pytest.raises(UserError) as refusal:
        trained_text(tokenizer(None), CHAT)

    assert (refusal.value.reason, refusal.value.message) == (
        "ModelUnsupported",
        "the model's tokenizer has no chat template, so conversations cannot be written: set chat.template to chatml, or "
        "use an instruct model",
    )


def test_chatml_refuses_tools():
    """They would be left out in silence."""
    with pytest.raises(RowRefused, match="chatml does not support tools"):
        trained_text(
            tokenizer(None),
            Conversation(messages=said("hello", "fine"), tools=[{"name": "x"}]),
            Chat(template="chatml"),
        )


@pytest.mark.parametrize(
    ("pad", "spare", "expected"),
    [
        ("<pad>", ["<pad>"], "<pad>"),
        ("<|im_end|>", ["<pad>"], "<|im_end|>"),
        (None, ["<pad>"], "<pad>"),
    ],
    ids=["its own", "its own, the end of answers", "a spare one"],
)
def test_a_tokenizer_keeps_its_padding_token(pad, spare, expected):
    """Padding is masked by its place, so it may be the end of answers: nothing is lost, and nothing is to be said."""
    words = tokenizer()
    words.add_special_tokens({"additional_special_tokens": spare})
    words.pad_token = pad

    turns = ready_tokenizer(words, Chat())

    assert (words.pad_token, turns.warnings) == (expected, ())


def test_an_end_of_answers_that_is_also_the_padding_is_learned():
    """Zephyr pads with the token that ends its answers."""
    words = tokenizer(pad_token="<|im_end|>")

    assert trained_text(words, CHAT, Chat()) == "fine<|im_end|>thanks<|im_end|>"


def test_without_a_spare_token_the_end_is_the_padding():
    """As transformers does it."""
    words = letters(BODY)

    assert (ready_tokenizer(words, Chat()).warnings, words.pad_token) == ((), "</s>")
