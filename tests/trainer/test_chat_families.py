"""Templates as model families ship them (TRL carries copies): what is learned, and what is refused instead of lost in silence."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from finetune_contract import Chat
from finetune_trainer.chat import ready_tokenizer
from finetune_trainer.chat.conversation import Conversation, RowRefused

from tests.trainer.data_inputs import at, said, tokenizer, trained_text

DEEPSEEK_END = "<｜end▁of▁sentence｜>"  # noqa: RUF001 - the family writes its tokens with such bars
ENDS = {
    "deepseek_r1_distill": DEEPSEEK_END, "deepseekv3": DEEPSEEK_END, "gemma": "<end_of_turn>", "glm4moe": "<|user|>",
    "gptoss": "<|return|>", "llama3": "<|eot_id|>", "llama3_1": "<|eot_id|>", "phi3": "<|end|>",
}  # fmt: skip
MORE = ["<|start_header_id|>", "<|end_header_id|>", "<|call|>", "<start_of_turn>", *ENDS.values()]
ONE = {"type": "function", "function": {"name": "look", "arguments": {"days": 3}}}
TWO = {"type": "function", "function": {"name": "find", "arguments": {"x": "y"}}}
TOOLS = [
    {"type": "function", "function": {"name": name, "description": "d", "parameters": {"type": "object"}}}
    for name in ("look", "find")
]


def family(name: str) -> Any:
    """A tokenizer with the template and the special tokens of a family."""
    spec = importlib.util.find_spec("trl")
    assert spec is not None
    assert spec.origin is not None
    template = (Path(spec.origin).parent / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")
    words = tokenizer(template, bos_token="<s>")
    words.add_special_tokens({"additional_special_tokens": MORE})
    words.eos_token = ENDS.get(name, "<|im_end|>")
    return words


def calling(*calls: Any, tools: Any = TOOLS) -> Conversation:
    """A question, calls, a result for each, an answer."""
    results = [{"role": "tool", "name": call["function"]["name"], "content": "1"} for call in calls]
    asked = {"role": "assistant", "content": "", "tool_calls": list(calls)}
    return Conversation(messages=[*said("hello"), asked, *results, *said("", "fine")[1:]], tools=tools)


CALLS = (
    '<tool_call>\n{"name": "look", "arguments": {"days": 3}}\n</tool_call>\n<tool_call>\n{"name": "find", "arguments": '
    '{"x": "y"}}\n</tool_call><|im_end|>'
)
THOUGHT = {"role": "assistant", "content": "fine", "reasoning_content": "red or blue"}
EARLIER = Conversation(messages=[*said("hello"), THOUGHT, *said("how", "thanks")])
GREETING = Conversation(messages=[{"role": "assistant", "content": "welcome"}, *said("hello", "fine")])
KIND = Conversation(messages=[{"role": "system", "content": "be kind"}, *said("hello", "fine")])

LEARNED = [
    ("qwen3", "parallel calls before the last answer", calling(ONE, TWO), f"{CALLS}<think>\n\n</think>\n\nfine<|im_end|>"),
    ("qwen2_5", "parallel calls", calling(ONE, TWO), f"{CALLS}fine<|im_end|>"),
    ("qwen2_5", "the assistant begins, behind a system prompt of the template", GREETING, "welcome<|im_end|>fine<|im_end|>"),
    ("llama3_1", "the assistant begins", GREETING, "welcome<|eot_id|>fine<|eot_id|>"),
    ("phi3", "the assistant begins", GREETING, "welcome<|end|>fine<|end|>"),
    ("deepseek_r1_distill", "asked for with <think>, written without", KIND, f"fine{DEEPSEEK_END}"),
    ("deepseek_r1_distill", "every answer of several turns", Conversation(messages=[*KIND.messages, *said("hello", "thanks")]),
     f"fine{DEEPSEEK_END}thanks{DEEPSEEK_END}"),
    ("glm4moe", "an answer ends where the next question begins", Conversation(messages=said("hello", "fine", "how", "thanks")),
     "\n<think></think>\nfine<|user|>\n<think></think>\nthanks<|user|>"),
    ("deepseekv3", "arguments as text, content null", Conversation(messages=[*said("hello"), calling(ONE).messages[1]]),
     "<｜Assistant｜><｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>look\n```json\n{\"days\": 3}\n```<｜tool▁call▁end｜>"  # noqa: RUF001
     f"<｜tool▁calls▁end｜>{DEEPSEEK_END}"),  # noqa: RUF001
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "kind", "row", "learned"), LEARNED, ids=[f"{name}-{kind}" for name, kind, _, _ in LEARNED]
)
def test_what_is_learned_with_the_templates_of_families(name, kind, row, learned):
    """Answers and calls with the end of their turns, wherever the family's habits put them."""
    assert trained_text(family(name), row) == learned


REASONING_LOST = (
    "the chat template leaves out the reasoning of message 2, so the answer would be learned without it: use chat.trainOn: "
    "last if it belongs to an earlier answer; otherwise remove it or set chat.template: chatml"
)
WITH_TOOLS = "use a model whose chat template writes tools, or set chat.templateSource to a template that does"
MISTRAL = (
    "{% for m in messages %}{% if m.role not in ['user', 'assistant'] %}"
    "{{ raise_exception('Only user and assistant roles are supported!') }}"
    "{% endif %}{{ m.content }}<|im_end|>{% endfor %}"
)
ONLY_LAST = "use chat.trainOn: last, or chat.template: chatml"
REFUSED = [
    ("gemma", "a system message", KIND,
     "the chat template refuses it: System role not supported; put the system text in front of the first question, or set "
     "chat.template: chatml"),
    ("llama3_1", "parallel calls", calling(ONE, TWO),
     "the chat template refuses it: This model only supports single tool-calls at once!; correct or remove such rows"),
    ("llama3", "tools that it does not know", calling(ONE),
     f"the chat template does not render its tools: {WITH_TOOLS}, or remove the column if calls are not to be learned"),
    ("lfm2", "tools but no calls", calling(ONE),
     f"the chat template does not render the tool calls of message 2: {WITH_TOOLS}"),
    ("gptoss", "a second call", calling(ONE, TWO),
     f"the chat template does not render the tool calls of message 2: {WITH_TOOLS}"),
    ("gptoss", "a system message in the middle", Conversation(messages=[*said("a", "b"), KIND.messages[0], *said("c", "d")]),
     "the chat template leaves out what message 3 (system) says: use chat.template chatml, or remove the message"),
    ("qwen3", "earlier reasoning as its own key", EARLIER,
     "the chat template leaves out the reasoning of message 2, so the answer would be learned without it: use chat.trainOn: "
     "last if it belongs to an earlier answer; otherwise remove it or put it into the content"),
    ("qwen3", "earlier reasoning in the content", Conversation(messages=said("a", "<think>\nred\n</think>\n\nb", "c", "d")),
     REASONING_LOST),
    ("qwen3_5_think", "an earlier answer, asked for with <think>", Conversation(messages=said("a", "b", "c", "d")),
     "the chat template writes what comes before message 2 differently once the answer is there, so the part to learn "
     f"cannot be determined: {ONLY_LAST}"),
    ("deepseek_r1_distill", "reasoning that it cuts off", Conversation(messages=said("a", "<think>\nred\n</think>\n\nb")),
     REASONING_LOST),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "kind", "row", "message"), REFUSED, ids=[f"{name}-{kind}" for name, kind, _, _ in REFUSED]
)
def test_what_a_template_would_lose_is_refused(name, kind, row, message):
    """A template drops what it does not know without a word, and the model would learn that."""
    with pytest.raises(RowRefused) as refusal:
        trained_text(family(name), row)

    assert str(refusal.value) == message


@pytest.mark.parametrize("name", ["qwen3", "qwen3_5_think"])
def test_reasoning_of_the_last_answer_is_learned(name):
    """What the remedy names works."""
    row = Conversation(messages=[*EARLIER.messages[:3], {**THOUGHT, "content": "thanks"}])

    assert "red or blue" in trained_text(family(name), row, Chat(train_on="last"))


def test_a_template_that_asks_otherwise_than_it_writes_is_warned_of():
    """DeepSeek's opens the reasoning for the model, and leaves it out of what is trained; Qwen3's does neither."""
    assert ready_tokenizer(family("deepseek_r1_distill"), Chat()).warnings == (
        "the chat template asks for an answer with '<｜Assistant｜><think>\\n', but writes answers without it: the tuned model "  # noqa: RUF001
        "will be prompted in a form that it was not trained on. Rows are trained as the template renders them",
    )
    assert ready_tokenizer(family("qwen3"), Chat()).warnings == ()


NO_TOOLS = [
    (calling(ONE), "tools, tool calls and messages of role tool"),
    (calling(ONE, tools=None), "tool calls and messages of role tool"),
    (Conversation(messages=[*said("hello"), {"role": "tool", "content": "1"}, *said("", "fine")[1:]]), "messages of role tool"),
]  # fmt: skip


@pytest.mark.parametrize(("row", "held"), NO_TOOLS, ids=[held for _, held in NO_TOOLS])
def test_a_template_without_tools_is_the_cause_and_another_helps(tmp_path, local_files, row, held):
    """What the template says of it (a role, alternation) is not what is wrong; removing all such rows would be no remedy."""
    told = (
        f"it holds {held}, which the chat template does not support (Only user and assistant roles are supported!): {WITH_TOOLS}; if "
        f"calls are not to be learned, remove the {held}"
    )
    with pytest.raises(RowRefused) as refusal:
        trained_text(tokenizer(MISTRAL), row)

    assert str(refusal.value) == told
    with_tools = tmp_path / "tools.jinja"
    with_tools.write_text(family("qwen2_5").chat_template)
    assert trained_text(tokenizer(MISTRAL), row, Chat(template_source=at(with_tools))).endswith("fine<|im_end|>")
