"""The model card: README.md of an artifact, in the hub's format. Pure text. Called by artifacts."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

from finetune_contract import Artifact, CombineConfig, EvaluationResult, RunConfig
from finetune_contract.engines import Servable
from finetune_contract.wire import to_wire

from finetune_trainer.publishing.adapter_facts import AdapterFacts
from finetune_trainer.publishing.card_metrics import metrics_section
from finetune_trainer.publishing.curves import CURVES_FILE
from finetune_trainer.publishing.licence import Licence, front_matter, in_words
from finetune_trainer.publishing.published import Published
from finetune_trainer.publishing.spent import spent_row
from finetune_trainer.publishing.usage import usage
from finetune_trainer.runtime.speed import Speed


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """What a result was made of and with."""

    name: str
    licence: Licence
    versions: Mapping[str, str]
    """Of the packages that can change a result."""


def model_card(
    run: RunConfig, published: Published, base: Base, adapter: AdapterFacts | None, *, chat: bool, curves: bool
) -> str:
    """Return the card: what it is, what it was made from, how it does, how to load it. `chat`: it has a chat template; `curves`: the
    picture is beside it."""
    parts = [
        _front_matter(run, base),
        f"# {run.name}\n",
        _summary(run, published, base, adapter),
        _results(published.evaluation),
        f"![Loss over the steps]({CURVES_FILE})\n" if curves else "",
        metrics_section(published.metrics),
        usage(run, "model" if adapter is None else "adapter", chat=chat, stops=adapter.stops if adapter else ()),
        _settings(run),
    ]
    return "\n".join(part for part in parts if part)


def exported_card(run: RunConfig, result: Artifact, kind: str, checked: str, licence: Licence) -> str:
    """Return the card of a form that was made of the published result."""
    base = f"`{result.base_model}`" + (f" at revision `{result.base_revision}`" if result.base_revision else "")
    rows = [("base model", base), ("licence of the base model", in_words(licence))]
    rows += [("made of", f"`{result.uri}` (`{result.digest}`)")]
    rows += [("checked against", checked)] if checked else []
    table = "| | |\n|---|---|\n" + "".join(f"| {name} | {value} |\n" for name, value in rows)
    matter = ["pipeline_tag: text-generation", *front_matter(licence)]
    if run.model.location.uri.startswith("hf://"):
        matter.append(f"base_model: {json.dumps(result.base_model)}")
    if kind != "merged":
        matter.insert(0, "library_name: gguf")
        use = f"## Use\n\n```\nllama-server -m {run.name}-{kind.removeprefix('gguf-')}.gguf\n```\n"
    else:
        matter.insert(0, "library_name: transformers")
        use = usage(run, kind, chat=run.objective == "sft")
    front = "---\n" + "\n".join(matter) + "\n---\n"
    return "\n".join((front, f"# {run.name}, {kind}\n", table, use))


def _front_matter(run: RunConfig, base: Base) -> str:
    library = "peft" if run.lora is not None else "transformers"
    lines = [f"library_name: {library}", "pipeline_tag: text-generation", *front_matter(base.licence)]
    if run.model.location.uri.startswith("hf://"):
        lines.append(f"base_model: {json.dumps(base.name)}")
    return "---\n" + "\n".join(lines) + "\n---\n"


def _summary(run: RunConfig, published: Published, base: Base, adapter: AdapterFacts | None) -> str:
    rows = [
        ("base model", f"`{base.name}`" + (f" at revision `{run.model.revision}`" if run.model.revision else "")),
        ("licence of the base model", in_words(base.licence)),
        ("data", "".join(f"`{dataset.location.uri}` " for dataset in run.datasets).strip()),
        ("data digest", f"`{run.dataset_digest}`"),
        *(_trained(run) if run.combine is None else _merged(run, run.combine)),
        ("computation", published.computation),
        *_speed(run, published.speed),
        *spent_row(published.spent),
        ("made with", ", ".join(f"{name} {version}" for name, version in base.versions.items() if version != "absent")),
    ]
    if adapter is not None:
        rows.insert(5, ("adapter", _adapter(run, adapter)))
        rows[6:6] = [(f"served by {one.engine}", _served(one)) for one in adapter.servable_by]
    return "| | |\n|---|---|\n" + "".join(f"| {name} | {value} |\n" for name, value in rows)


def _trained(run: RunConfig) -> list[tuple[str, str]]:
    training = run.training
    steps = (
        f"{training.max_steps} steps of {training.global_batch_size} rows, at most {training.sequence_length} tokens"
    )
    return [
        ("objective, method", f"{run.objective}, {run.method}"),
        ("training", steps),
        ("learning rate", f"{training.learning_rate:g}, {training.scheduler}"),
    ]


def _merged(run: RunConfig, combine: CombineConfig) -> list[tuple[str, str]]:
    """Say what was merged, and how."""
    uris = [one.location.uri for one in combine.adapters]
    kept = f", density {combine.density:g}" if combine.method in ("ties", "dare") else ""
    seed = f", seed {combine.seed}" if combine.method == "dare" else ""
    return [
        ("merged by", f"{combine.method}{kept}{seed}"),
        *(
            (f"adapter of weight {one.weight:g}", f"`{uri}` (`{run.provenance[f'adapter {uri}']}`)")
            for one, uri in zip(combine.adapters, uris, strict=True)
        ),
    ]


def _served(one: Servable) -> str:
    """Say what an inference server does with the adapter."""
    if one.serves:
        return f"yes, started with `{one.option}`" if one.option else "yes"
    return f"not as an adapter: it {one.why_not}. Add merged to `output.exports`"


def _speed(run: RunConfig, speed: Speed) -> list[tuple[str, str]]:
    """Say how fast the GPUs were, as far as it was measured."""
    if speed.tokens_per_second is None:
        return []
    gpus, used, padding = run.layout.world_size, speed.model_flop_utilisation, speed.padding_share
    where = "" if used is None else f" on {gpus} GPU{'' if gpus == 1 else 's'}, {used:.0%} model FLOP utilisation"
    empty = "" if padding is None else f", {padding:.0%} padding"
    return [("speed", f"{speed.tokens_per_second:,.0f} tokens/s{where}{empty}".replace("%", " %"))]


def _adapter(run: RunConfig, adapter: AdapterFacts) -> str:
    continued = run.lora is not None and run.lora.initial_adapter is not None
    chosen = run.lora is not None and not continued and run.combine is None
    targets = run.lora.targets if run.lora is not None and chosen else ", ".join(adapter.target_modules)
    described = f"LoRA rank {adapter.rank}, alpha {adapter.alpha}, {targets}, {adapter.variant}"
    return f"{described}; continued from an earlier adapter" if continued else described


def _results(evaluation: EvaluationResult | None) -> str:
    if evaluation is None:
        return "No rows were held out, so nothing was measured.\n"
    result = evaluation
    lines = [
        f"## Evaluation\n\nOn {result.examples} held-out rows; losses are in nats per trained token.\n",
        "| | base | tuned |\n|---|---|---|",
        f"| loss | {_number(result.base_loss)} | {_number(result.tuned_loss)} |",
        f"| token accuracy | {_number(result.base_token_accuracy)} | {_number(result.tuned_token_accuracy)} |",
        f"| loss on a general text | {_number(result.base_forgetting_loss)} | {_number(result.tuned_forgetting_loss)} |",
    ]
    lines += [
        f"\n> {_quoted(sample.prompt)}\n\n- base: {_quoted(sample.base)}\n- tuned: {_quoted(sample.tuned)}"
        for sample in result.samples
    ]
    return "\n".join(lines) + "\n"


def _settings(run: RunConfig) -> str:
    """Return every setting of the training and its layout, defaults included, folded away. Of a merge there are none."""
    if run.combine is not None:
        return ""
    lora = replace(run.lora, initial_adapter=None) if run.lora is not None else None  # names a Secret
    told = {"method": run.method, "training": run.training, "lora": lora, "layout": run.layout}
    written = json.dumps({name: to_wire(value) for name, value in told.items() if value is not None}, indent=2)
    return (
        f"## Settings\n\n<details><summary>All settings of the run</summary>\n\n```json\n{written}\n```\n\n</details>\n"
    )


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.4f}"


def _quoted(text: str) -> str:
    return " ".join(text.split()) or "(nothing)"
