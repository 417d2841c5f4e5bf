"""lm-eval itself, which only this module imports: a task is built, a model is asked, each document is scored. No torch.

Imported only where a job has such a metric: the package is an extra. What its templates may do is decided here: they run in
jinja2's sandbox. Its own environment lets a template reach any object of Python, and with it any command.
"""

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import lm_eval.api.model
import lm_eval.api.task
import lm_eval.utils
from jinja2 import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from lm_eval.api.model import TemplateLM
from lm_eval.api.task import ConfigurableTask
from lm_eval.config.task import TaskConfig
from lm_eval.evaluator import evaluate
from lm_eval.models.utils import normalize_gen_kwargs

from finetune_trainer.evaluation.tasks.asked import DATA_FOLDER, Answerer, Continuation, Document, Prompt, Task

FEWSHOT_SEED = 1234
"""Of the examples in a prompt, as lm-eval's own command has it."""

FIELDS = frozenset(field.name for field in fields(TaskConfig))
"""Of a task's YAML file."""

lm_eval.utils.env = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
lm_eval.utils.env.filters["regex_replace"] = lm_eval.utils.regex_replace
for module in (lm_eval.api.model, lm_eval.api.task):
    module.tqdm = partial(module.tqdm, disable=True)
datasets.disable_progress_bars()
logging.getLogger("lm_eval").setLevel(logging.ERROR)  # of what it warns of, preflight refuses what matters


class Asking(TemplateLM):
    """A model as lm-eval asks it. Texts become tokens as in its own `hf` model; somebody else answers."""

    def __init__(self, tokenizer: Any, answerer: Answerer) -> None:
        super().__init__()
        self.tokenizer, self.answerer = tokenizer, answerer

    @property
    def eot_token_id(self) -> int:
        """The token that ends a text."""
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        """The token that an answer without a prompt comes after."""
        return int(self.eot_token_id if self.tokenizer.bos_token_id is None else self.tokenizer.bos_token_id)

    @property
    def tokenizer_name(self) -> str:
        """Nothing: requests are not cached."""
        return ""

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Return token ids, with what the tokenizer begins a text with, unless the text begins with it."""
        if add_special_tokens is None and not string.startswith(self.tokenizer.decode(self.prefix_token_id)):
            return list(self.tokenizer.encode(string))
        return list(self.tokenizer.encode(string, add_special_tokens=bool(add_special_tokens)))

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Return a conversation as the run's chat template writes it."""
        return str(
            self.tokenizer.apply_chat_template(
                chat_history, tokenize=False, add_generation_prompt=add_generation_prompt,
                continue_final_message=not add_generation_prompt,
            )
        )  # fmt: skip

    def loglikelihood(self, requests: Any, disable_tqdm: bool = True) -> Any:
        """Return the log-probability of each answer after its prompt; as everywhere, without a bar of progress."""
        return super().loglikelihood(requests, disable_tqdm=disable_tqdm)

    def _loglikelihood_tokens(self, requests: Sequence[Any], **_: Any) -> list[tuple[float, bool]]:
        texts = [Continuation(tokens=(*context, *end), scored=len(end)) for _, context, end in requests]
        return self.answerer.likelihoods(texts)

    def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> list[float]:
        """Preflight refuses such tasks."""
        raise NotImplementedError

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:  # noqa: ARG002
        """Return the answer to each prompt, up to the first text that ends it."""
        return self.answerer.completions([self._prompt(*request.args) for request in requests])

    def _prompt(self, context: str, settings: dict[str, Any]) -> Prompt:
        asked = normalize_gen_kwargs(settings)
        return Prompt(
            tokens=tuple(self.tok_encode(context)),
            max_new_tokens=asked["max_gen_toks"],
            until=tuple(filter(None, asked["until"])),
        )


def built(task: Task, folder: Path, cache: Path) -> ConfigurableTask:
    """Return lm-eval's task. Its data is read from the folder of the task and from nowhere else, by way of a cache."""
    with _without_a_mark_for_torch():
        made = ConfigurableTask(config=_with_places(dict(task.config), folder / DATA_FOLDER, cache))
    made.set_fewshot_seed(seed=FEWSHOT_SEED)
    return made


@contextmanager
def _without_a_mark_for_torch() -> Iterator[None]:
    """Preflight marks torch as missing in sys.modules; datasets takes a mark for the module, and imports it."""
    marked = "torch" in sys.modules and sys.modules["torch"] is None
    if marked:
        del sys.modules["torch"]
    try:
        yield
    finally:
        if marked:
            sys.modules["torch"] = None  # type: ignore[assignment]  # how Python spells "not importable"


def _with_places(config: dict[str, Any], folder: Path, cache: Path) -> dict[str, Any]:
    """Return the settings with the full paths of data files."""
    data = dict(config["dataset_kwargs"])
    if "data_files" in data:
        data["data_files"] = {
            split: [str(folder / path) for path in paths] for split, paths in data["data_files"].items()
        }
    else:
        config["dataset_path"] = str(folder / config["dataset_path"])
    return config | {"dataset_kwargs": data | {"cache_dir": str(cache)}}


def asked(task: Task, made: ConfigurableTask, tokenizer: Any, answerer: Answerer) -> tuple[Document, ...]:
    """Put a task to a model and return its documents with what the task says of each."""
    made.set_fewshot_seed(seed=FEWSHOT_SEED)  # the same examples for both models
    name = str(task.config["task"])
    found = evaluate(
        lm=Asking(tokenizer, answerer),
        task_dict={"tasks": {name: made}, "groups": {}},
        limit=task.limit or None,
        bootstrap_iters=0,
        system_instruction=task.system_prompt or None,
        apply_chat_template=task.chat_template,
        fewshot_as_multiturn=task.chat_template,
    )
    samples = [sample for sample in found["samples"][name] if sample["filter"] == task.filter]
    return tuple(_document(task, made, sample) for sample in samples)


def _document(task: Task, made: ConfigurableTask, sample: dict[str, Any]) -> Document:
    asked, answers = sample["arguments"], [one[0] for one in sample["resps"]]
    choices = made.doc_to_choice(sample["doc"]) if made.config.doc_to_choice is not None else []
    return Document(
        prompt=str(asked[0][0]),
        reference=_chosen(sample["target"], choices),
        answer=_answer(task, choices, asked, answers),
        score=float(sample[task.metric]),
    )


def _chosen(target: Any, choices: Sequence[Any]) -> str:
    """Return the answer of the data as text: numbers stand for choices."""
    if isinstance(target, list):
        return ", ".join(_chosen(one, choices) for one in target)
    return str(choices[target] if isinstance(target, int) and 0 <= target < len(choices) else target)


def _answer(task: Task, choices: Sequence[Any], asked: Sequence[Any], answers: Sequence[Any]) -> str:
    """Return what the model said, or would rather say."""
    if task.config["output_type"] == "generate_until":
        return str(answers[0])
    if task.config["output_type"] == "loglikelihood":
        return str(asked[0][1]) if answers[0][1] else ""
    likeliest = max(range(len(choices)), key=lambda number: answers[number][0])
    return str(choices[likeliest])


def wrong_choices(made: ConfigurableTask, limit: int) -> list[tuple[int, str]]:
    """Return the documents whose answer is none of their choices: they count as wrong whatever the model says."""
    found = []
    for number, document in made.doc_iterator(limit=limit or None):
        choices = made.doc_to_choice(document)
        gold = made.doc_to_text(document) if made.multiple_input else made.doc_to_target(document)
        golds = gold if isinstance(gold, list) else [gold]
        if not all(one in choices if isinstance(one, str) else 0 <= one < len(choices) for one in golds):
            found.append((number, str(gold)))
    return found
