"""What a task file may say here, and the one metric and filter of it that count. Pure. Called by prepared.

lm-eval itself would accept most of what is refused, and answer with a figure that is not of each document, or run code.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from finetune_contract import LmEval

from finetune_trainer.data.reading.nearest import did_you_mean, nearest
from finetune_trainer.data.tasks.files import code_tags
from finetune_trainer.errors import UserError

Settings = Mapping[str, Any]

METRICS = {
    "multiple_choice": ("acc", "acc_norm", "acc_bytes", "acc_mutual_info", "exact_match"),
    "loglikelihood": ("acc",),
    "generate_until": ("exact_match",),
}
"""By output_type: the metrics whose figure is the mean of a value of each document, from 0 to 1."""

METRIC_OPTIONS = {
    "metric", "aggregation", "higher_is_better", "hf_evaluate", "ignore_case", "ignore_punctuation", "ignore_numbers", "regexes_to_ignore",
}  # fmt: skip
OF_GROUPS = ("weight_by_size",)
"""Options that mean something for a group only, and stand at tasks too."""

FILTERS = (
    "regex", "multi_choice_regex", "remove_whitespace", "lowercase", "uppercase", "map", "take_first", "take_first_k", "majority_vote",
)  # fmt: skip
UNFILTERED = "none"
"""How lm-eval calls the filter of a task that has none."""

REFUSED = {
    "class": "is Python code",
    "custom_dataset": "is Python code",
    "process_docs": "is Python code",
    "process_results": "is Python code",
    "use_prompt": "takes prompts from another library",
    "doc_to_image": "needs a model that sees",
    "doc_to_audio": "needs a model that hears",
    "unsafe_code": "runs what the model writes",
}
TOKEN_LIMITS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""In the order in which lm-eval looks for them."""

GENERATION = {"until", "do_sample", "temperature", "top_p", "top_k", "num_beams", *TOKEN_LIMITS}
DEFAULT_TOKENS = 256
"""Of lm-eval's, for an answer without a limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The settings as lm-eval gets them, and what of its results counts."""

    settings: dict[str, Any]
    metric: str
    filter: str


def chosen(settings: Settings, asked: LmEval, *, max_answer_tokens: int) -> Chosen:
    """Return the settings with one metric and one filter. Raises UserError(DatasetInvalid, InvalidSpec) for what does not work here."""
    output = str(settings.get("output_type") or "generate_until")
    _check_runs_nothing(settings)
    _check_output(output)
    _check_numbers(settings)
    _check_choices(settings)
    name, _, wanted_filter = asked.metric.partition(",")
    metric = _metric(settings, output, name)
    pipeline = _filter(settings, wanted_filter)
    made = dict(settings) | {
        "output_type": output,
        "metric_list": [metric],
        "num_fewshot": settings.get("num_fewshot") or 0,
        "filter_list": [pipeline] if pipeline else None,
        "metadata": {},  # of whoever wrote the file; lm-eval fails on some of its forms
    }
    if output == "generate_until":
        made["generation_kwargs"] = _generation(settings, max_answer_tokens)
    return Chosen(settings=made, metric=metric["metric"], filter=pipeline["name"] if pipeline else UNFILTERED)


def _invalid(message: str) -> UserError:
    return UserError("DatasetInvalid", message)


def _check_runs_nothing(settings: Settings) -> None:
    for field, mark in code_tags(settings):
        raise _invalid(
            f"{field} is {mark.tag} {mark.value}, which is code, and code of a task is not run here: write it as a template, or process "
            "the documents beforehand and save the result as JSON lines"
        )
    for field, why in REFUSED.items():
        if settings.get(field):
            raise _invalid(f"{field} {why}, which is not supported: use templates over columns of the documents")


def _check_output(output: str) -> None:
    if output in METRICS:
        return
    if output == "loglikelihood_rolling":
        raise _invalid(
            "output_type loglikelihood_rolling measures perplexity of whole texts, which is not a mean over documents: "
            f"use {_or(METRICS)}; the held-out loss measures how well text is predicted"
        )
    raise _invalid(f"unknown output_type {output}: use {_or(METRICS)}{did_you_mean([nearest(output, METRICS)])}")


def _check_numbers(settings: Settings) -> None:
    if (repeats := settings.get("repeats") or 1) != 1:
        raise _invalid(
            f"repeats is {repeats}, but answers are always the likeliest, so all would be the same: remove repeats"
        )
    if not settings.get("test_split") and not settings.get("validation_split"):
        raise _invalid(
            "test_split and validation_split are missing: set one of them to a split of the data, such as test"
        )
    shots = settings.get("num_fewshot") or 0
    if not isinstance(shots, int) or shots < 0:
        raise _invalid(f"num_fewshot is {shots}: use a whole number from 0 on")


def _check_choices(settings: Settings) -> None:
    choices = settings.get("doc_to_choice")
    wrong = [one for one in choices if not isinstance(one, str)] if isinstance(choices, list) else []
    if wrong:
        raise _invalid(
            f'doc_to_choice lists {wrong[0]}, which YAML does not read as text: put every choice in quotes, such as "yes" and "no"'
        )


def _metric(settings: Settings, output: str, wanted: str) -> dict[str, Any]:
    """Return the entry of metric_list that counts."""
    listed = settings.get("metric_list") or [{"metric": name} for name in METRICS[output]]
    entries = {str(one.get("metric")): one for one in listed if isinstance(one, dict)}
    works = [name for name in entries if name in METRICS[output]]
    name = wanted or next(iter(entries), "")
    if name not in entries:
        raise UserError(
            "InvalidSpec",
            f"the task has no metric {name}: its metric_list names {_or(entries)}{did_you_mean([nearest(name, entries)])}",
        )
    if name not in METRICS[output]:
        remedy = f"set lmEval.metric to {_or(works)}" if works else f"add {_or(METRICS[output])} to metric_list"
        raise _invalid(
            f"metric {name} of output_type {output} is not a mean of a value of each document, so it has no interval and no "
            f"difference by document: {remedy}"
        )
    entry = {key: value for key, value in entries[name].items() if key not in OF_GROUPS}
    _check_entry(entry, name)
    return entry


def _check_entry(entry: Settings, name: str) -> None:
    if entry.get("hf_evaluate"):
        raise _invalid(f"hf_evaluate fetches metric {name} from the hub: remove it, lm-eval has {name} of its own")
    if (aggregation := entry.get("aggregation", "mean")) != "mean":
        raise _invalid(
            f"aggregation of metric {name} is {aggregation}: only mean works here, since intervals are of means"
        )
    if entry.get("higher_is_better", True) is not True:
        raise _invalid(f"higher_is_better of metric {name} is false: here more is always better")
    if unknown := sorted(set(entry) - METRIC_OPTIONS):
        raise _invalid(
            f"metric {name} has the unknown option {unknown[0]}{did_you_mean([nearest(unknown[0], METRIC_OPTIONS)])}"
        )


def _filter(settings: Settings, wanted: str) -> dict[str, Any] | None:
    """Return the filter that counts: the one that was named, or the first; None without filters."""
    listed = settings.get("filter_list") or []
    named = {str(one.get("name")): one for one in listed if isinstance(one, dict)}
    if wanted and wanted not in (named or {UNFILTERED}):
        raise UserError(
            "InvalidSpec",
            f"the task has no filter {wanted}: its filter_list names {_or(named) if named else 'none'}; correct lmEval.metric"
            f"{did_you_mean([nearest(wanted, named)])}",
        )
    if not named:
        return None
    pipeline = named[wanted or next(iter(named))]
    for step in pipeline.get("filter") or []:
        function = str(step.get("function") if isinstance(step, dict) else step)
        if function not in FILTERS:
            raise _invalid(
                f"filter {pipeline['name']} has the function {function}: use {_or(FILTERS)}{did_you_mean([nearest(function, FILTERS)])}"
            )
    return dict(pipeline)


def _generation(settings: Settings, max_answer_tokens: int) -> dict[str, Any]:
    """Return how answers are generated: always greedily, and no longer than was planned."""
    asked = dict(settings.get("generation_kwargs") or {})
    if unknown := sorted(set(asked) - GENERATION):
        raise _invalid(
            f"generation_kwargs has {unknown[0]}, which is not supported: use until, max_gen_toks and do_sample: false"
            f"{did_you_mean([nearest(unknown[0], GENERATION)])}"
        )
    sampled = asked.get("do_sample", float(asked.get("temperature") or 0) > 0)
    if sampled or (asked.get("num_beams") or 1) != 1:
        raise _invalid(
            "generation_kwargs asks for sampled answers or beams, but answers are always the likeliest: set do_sample to false and remove "
            "temperature and num_beams"
        )
    tokens = next((int(asked[name]) for name in TOKEN_LIMITS if asked.get(name)), DEFAULT_TOKENS)
    if tokens > max_answer_tokens:
        raise UserError(
            "InvalidSpec",
            f"the task lets answers have {tokens:,} tokens, but evaluation.maxAnswerTokens is {max_answer_tokens:,}: raise it to {tokens}, "
            "or lower max_gen_toks in generation_kwargs",
        )
    until = asked.get("until") or settings.get("fewshot_delimiter") or "\n\n"
    return {"until": [until] if isinstance(until, str) else list(until), "max_gen_toks": tokens, "do_sample": False}


def _or(names: Iterable[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last
