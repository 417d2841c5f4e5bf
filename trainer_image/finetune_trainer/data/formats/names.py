"""The tables of names: roles, keys of messages, columns. One place says how data sets spell what we know."""

import re
from functools import lru_cache

SYSTEM, DEVELOPER, USER, ASSISTANT, TOOL = "system", "developer", "user", "assistant", "tool"
CALL = "call"
"""A turn that is nothing but a tool call (ShareGPT): said by the assistant, its text is JSON."""

ROLES = {
    SYSTEM: SYSTEM,
    DEVELOPER: DEVELOPER,
    **dict.fromkeys((USER, "human", "prompter", "customer", "questioner", "student", "\u95ee", "\u7528\u6237"), USER),
    **dict.fromkeys(
        (
            ASSISTANT,
            "gpt",
            "chatgpt",
            "bot",
            "chatbot",
            "model",
            "ai",
            "bing",
            "bard",
            "claude",
            "llm",
            "answerer",
            "\u7b54",
            "\u52a9\u624b",
        ),
        ASSISTANT,
    ),
    **dict.fromkeys(
        (
            TOOL,
            "function",
            "ipython",
            "observation",
            "tool_response",
            "tool_result",
            "function_response",
            "environment",
        ),
        TOOL,
    ),
    **dict.fromkeys(("function_call", "tool_call", "function-call", "tool-call"), CALL),
}
"""Who speaks, by the words of ShareGPT, OpenAI, Llama, Gemini, Cohere, OASST, in lower case; four are Chinese."""

ROLE_KEYS = ("role", "from", "speaker", "author", "sender", "agent")
CONTENT_KEYS = ("content", "value", "parts", "text", "message", "utterance")
LOSS_SWITCHES = ("weight", "train", "training", "trainable", "loss", "loss_mask")
"""Keys of a message that say whether it is learned: OpenAI, axolotl, ms-swift and others."""

PARTIAL_SWITCHES = ("train_detail", "training_detail")
"""The same for parts of a message (axolotl)."""

REASONING = ("reasoning_content", "reasoning", "thinking")
LEAST_REASONING = 10
"""So many characters reasoning has: a column reasoning that says on or off is a switch."""

MESSAGE_KEYS = ("role", "content", "tool_calls", "tool_call_id", "name", *REASONING)

TURNS = (
    "messages", "conversations", "conversation", "dialogue", "dialog", "dialogs", "chat", "turns", "contents", "chatmessages",
)  # fmt: skip
PROMPTS = (
    "prompt", "instruction", "question", "query", "problem", "inputs", "inputtext", "user", "human", "q", "input", "textinput",
    "request",
)  # fmt: skip
COMPLETIONS = (
    "completion", "response", "output", "answer", "solution", "targets", "target", "outputs", "outputtext", "targettext",
    "assistant", "gpt", "bot", "reply", "a", "expectedoutput",
)  # fmt: skip
SPEAKERS = ("user", "human")
"""Those of the prompts that say who asks: a column user may hold what somebody asks, or their name."""

SYSTEMS = ("system", "systemprompt", "systemmessage", "systeminstruction", "sysprompt")
TOOLS = ("tools", "functions", "toolconfig")
HISTORIES = (
    "history", "chathistory", "conversationhistory", "messagehistory", "dialoghistory", "dialoguehistory", "previousmessages",
)  # fmt: skip
"""Columns of earlier turns beside a question and its answer: Alpaca's, Cohere's, LangChain's."""

PLAIN_TEXTS = (
    "text",
    "content",
    "contents",
    "body",
    "code",
    "document",
    "article",
    "story",
    "passage",
    "page",
    "rawcontent",
)
"""Columns that most likely hold the text of a corpus."""

JOINED = {"instruction": ("input", "context")}
"""Columns that are part of the question in a well-known form: Alpaca's input, Dolly's context."""

CALLS = ("query", "answers", "tools")
"""xLAM: the answers are the tool calls, as JSON."""

PREFERENCES = (
    ("chosen", "rejected"),
    ("preferredoutput", "nonpreferredoutput"),
    ("preferred", "rejected"),
    ("preferred", "dispreferred"),
    ("accepted", "rejected"),
    ("better", "worse"),
    ("win", "lose"),
    ("responsej", "responsek"),
)
UNDECIDED = (
    "conversation",
    "response",
    "answer",
    "output",
    "completion",
    "reply",
    "summary",
    "humanref",
    "generation",
    "chatbot",
    "model",
    "assistant",
    "bot",
    "candidate",
)
UNDECIDED_ENDS = (("a", "b"), ("0", "1"), ("1", "2"))
"""Two answers, such as response_a and response_b, of which another column says which is the better one."""

TURN_MARKS = (
    "<|im_start|>", "<|start_header_id|>", "<start_of_turn>", "[INST]", "<|user|>", "<|assistant|>", "<\uff5cUser\uff5c>",
    "<|START_OF_TURN_TOKEN|>", "<|start|>", "[|Human|]", "<|Human|>", "### Instruction:", "### Response:", "### Human:", "### Assistant:",
    "[Human]:", "[MOSS]:", "<human>", "<bot>", "<assistant>",
    "\nHuman:", "\nUser:", "\nUSER:",
    "\nAssistant:", "ASSISTANT:",
)  # fmt: skip
"""How well-known templates and scripts begin a turn."""

LABELS = ("label", "ktotag")
"""Beside prompt and completion a truth value says whether the answer is a good one (unpaired preference)."""

RATINGS = frozenset(
    "score scores rating ratings reward quality helpful helpfulness correctness thumbs verdict feedback "
    "safe toxic toxicity harmful stars resolved success passed correct".split()
)
"""Words in the names of columns that say how good an answer is."""

ASKED = frozenset(
    "input inputs context contexts history document documents passage passages evidence knowledge persona text article articles "
    "paragraph paragraphs body story facts hint hints choices options code schema dialogue dialog conversation transcript description "
    "subject premise hypothesis sentence frage fragen pregunta domanda pergunta".split()
)
"""Words in the names of columns that speak of the question."""

INCIDENTAL = frozenset(
    "id ids idx index uuid guid count counts num number length len size tokens token lang language locale source sources url urls uri "
    "link hash md5 sha checksum digest type types kind kinds date dates "
    "time timestamp timestamps version revision name names split file filename "
    "path model models category title meta metadata country region created updated modified edited exported config configs formatting "
    "status row rows line rank ts offset start end position seed temperature top penalty stream stop finish logprobs domain "
    "difficulty author annotator annotators worker username email phone address zip ip session thread dataset "
    "copyright signature duration latency lead cost usage price unnamed "
    "ext extension mime charset "
    "header redacted state moderation flagged turn turns fingerprint generator "
    "flags commit repo repos license task subreddit priority tags permalink account".split()
)
"""Words that make such a name harmless: prompt_id, text_length. Whatever else is not read is named."""

HARMLESS_NAMES = (
    "n", "k", "stopreason", "endturn", "schemaversion", "project", "isbot", "paralleltoolcalls", "subcategory", "partitiontime",
)  # fmt: skip
"""Whole names of no effect on what is learned: of logged calls and of tools for annotation."""

ANSWERING = frozenset(
    "completion completions response responses output outputs answer answers solution solutions target targets reply label labels "
    "category class sentiment emotion intent summary summaries highlights headline abstract tldr translation code "
    "ideal gold best truth generation attempt reply replies resolution sql translated correct "
    "antwort antworten respuesta risposta resposta".split()
)
"""Words in the names of columns that may hold what is to be learned."""

CLASSES = frozenset("label labels category class sentiment emotion intent".split())
"""Those that hold a class: a few words, not sentences."""

TOLD = (ANSWERING | ASKED | frozenset((*PROMPTS, *COMPLETIONS))) - {"code", "class", "category"}
"""Last words of names that hold what is asked or answered, whatever stands before them: a language_code is none."""

MAY_HOLD = frozenset(
    "source sources title category model models name meta metadata data lang language file type".split()
)
"""Of the harmless words those whose columns sometimes hold a question or an answer all the same."""

MEDIA = frozenset("image images img picture pictures video videos audio audios sound speech wav".split())
"""Words in the names of columns that hold something else than text."""

SAID_BEFORE = frozenset(
    "context contexts persona instruction instructions background scenario preamble role character".split()
)
"""Words in the names of columns beside a conversation that may hold its system prompt."""

REPLIES = ("inreplyto", "inresponseto", "replyto", "parentid", "parentmessage", "threadts", "responsetweetid")
"""What the name of a column holds that names the message which a row answers."""

ANNOTATED = frozenset("annotation annotations result results annotated correction corrections".split())
"""Words in the names of columns that hold what people wrote about the rest of the row."""

CHOICES = frozenset("choices choice options option endings candidates alternatives".split())
"""Words in the names of columns that hold the answers to choose from."""

SPLIT_COLUMNS = ("split", "partition", "subset", "fold")
NOT_TRAINED = ("test", "testing", "validation", "valid", "val", "dev", "eval", "evaluation", "heldout")
"""What such a column says of rows that were not meant for training."""

TRUE = (True, 1, "1", "true", "yes")
FALSE = (False, 0, "0", "false", "no")


@lru_cache(maxsize=4096)
def bare(name: str) -> str:
    """Return a name as the tables spell it: `Output_Text ` -> `outputtext`."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def words_of(name: str) -> set[str]:
    """Return the words in a name: `Complex_CoT` holds complex, cot, co and t."""
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return {word for spelt in (name, parted) for word in re.split(r"[^a-z]+", spelt.lower())}


@lru_cache(maxsize=4096)
def is_harmless(name: str) -> bool:
    """Tell whether a column or key of this name is known to say nothing about what is to be learned.

    Of a name with words of both kinds the last one decides: text_length is a length, model_response is an answer.
    """
    if name.startswith("__") or bare(name) in HARMLESS_NAMES:
        return True
    return bool(words_of(name) & INCIDENTAL) and _last_word(name) not in TOLD


def _last_word(name: str) -> str:
    words = re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())
    return words[-1] if len(words) > 1 else ""


@lru_cache(maxsize=4096)
def is_label_only(name: str) -> bool:
    """Tell whether a column of this name never holds a question or an answer: ids, dates, counts, addresses."""
    return is_harmless(name) and bool((words_of(name) & INCIDENTAL) - MAY_HOLD)


def is_reasoning(name: str, value: object) -> bool:
    """Tell whether a column holds what a model thought before its answer."""
    return name.lower() in REASONING and isinstance(value, str) and len(value) >= LEAST_REASONING


@lru_cache(maxsize=4096)
def names_answer(name: str) -> bool:
    """Tell whether a column beside plain text may be what is to be learned: a summary, a class."""
    return bool(words_of(name) & ANSWERING)


def is_reply(name: str) -> bool:
    """Tell whether a column says which message its row answers."""
    return any(word in bare(name) for word in REPLIES)


def truth(value: object) -> bool | None:
    """Return what a truth value says, also one that a table holds as text or number; None for anything else."""
    known = value.strip().lower() if isinstance(value, str) else value
    if isinstance(known, str | int | float):
        if known in TRUE:
            return True
        if known in FALSE:
            return False
    return None


def role_word(value: object) -> object:
    """Return a number or a truth value that stands for a role as datasets[].roles spells it; anything else as it is."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value) if isinstance(value, int | float) else value


def is_empty(value: object) -> bool:
    """Tell whether a value says nothing."""
    return value is None or value in ([], {}, ()) or (isinstance(value, str) and value.strip() in ("", "[]", "{}"))
