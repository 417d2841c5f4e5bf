"""A configuration of LLaMA-Factory (examples/train_*.yaml, data/README.md) as a job."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finetune_operator.cli.importing.hf_arguments import (
    PLANNED,
    SILENT,
    TRAINER_DEFAULTS,
    names,
    put_lora,
    put_training,
)
from finetune_operator.cli.importing.imported import (
    ONLY,
    Imported,
    data_source,
    destination,
    model_source,
    number_text,
    split_of,
    whole,
)
from finetune_operator.cli.importing.reader import Reader
from finetune_operator.errors import FinetuneError

TOOL = "LLaMA-Factory"
OBJECTIVES = {"sft": None, "pt": "cpt"}
COLUMNS = {"messages": "messages", "prompt": "prompt", "response": "completion", "system": "system"}
DEFAULTS = TRAINER_DEFAULTS | {"finetuning_type": "lora", "lora_rank": 8, "lora_target": "all", "cutoff_len": 2048}
ALPACA = {"prompt": "instruction", "response": "output"}


def recognises(settings: Mapping[str, Any]) -> bool:
    """Tell a configuration of LLaMA-Factory from others."""
    return "model_name_or_path" in settings and ("finetuning_type" in settings or "stage" in settings)


def convert(settings: Mapping[str, Any], name: str, folder: Path) -> Imported:
    """Return the job; data sets are looked up in dataset_info.json, where that is. Raises FinetuneError for what cannot be trained here."""
    given, job = Reader(settings, defaults=DEFAULTS), Imported(tool=TOOL, name=name)
    stage = given.text("stage") or "sft"
    if stage not in OBJECTIVES:
        raise FinetuneError(f"stage {stage} trains on preferences or rewards; {ONLY}")
    job.put("objective", OBJECTIVES[stage])
    job.put("model.source", model_source(job, given.text("model_name_or_path")))
    if given.flag("trust_remote_code"):
        job.differs.append(
            "trust_remote_code: the families of `finetune models` do not need it; others need a full commit id as revision"
        )
    _put_data(job, given, folder)
    _put_method(job, given)
    if adapter := given.text("adapter_name_or_path"):
        job.put("lora.initialAdapter", adapter if "://" in adapter else None)
        job.fill_in.append(f"spec.lora.initialAdapter: {adapter}")
    job.put("training.sequenceLength", whole(given.number("cutoff_len")))
    if given.flag("packing", "neat_packing"):
        job.put("training.packing", "always")
    put_training(job, given)
    job.put("chat.systemPrompt", given.text("default_system"))
    job.put("chat.trainOn", "last" if given.flag("mask_history") else "all" if given.flag("train_on_prompt") else None)
    if template := given.text("template"):
        job.differs.append(
            f"template {template}: the chat template of the model's own tokenizer is used (chat.template)"
        )
    job.put(
        "output.destination",
        destination(job, given.text("output_dir"), given.text("hub_model_id") if given.flag("push_to_hub") else ""),
    )
    job.leave(given.left(), PLANNED, SILENT)
    return job


def _put_method(job: Imported, given: Reader) -> None:
    kind, bits = given.text("finetuning_type") or "lora", whole(given.number("quantization_bit"))
    if kind not in ("lora", "full"):
        raise FinetuneError(f"finetuning_type {kind} does not exist here: use lora or full")
    if kind == "lora" and bits:
        job.put("method", "qlora")
        if bits != 4:
            job.differs.append(f"quantization_bit {bits}: qlora uses 4 bits (NF4)")
    else:
        job.put("method", kind)
    if kind == "lora":
        put_lora(job, given)
    else:
        given.take("lora_rank", "lora_target")


def _put_data(job: Imported, given: Reader, folder: Path) -> None:
    place = folder / (given.text("dataset_dir") or "data")
    known = _dataset_info(place)
    limit = whole(given.number("max_samples"))
    found = [_dataset(job, name, known.get(name), number) for number, name in enumerate(names(given.take("dataset")))]
    job.put(
        "datasets",
        [one | ({"maxExamples": limit} if limit else {}) for one in found] or [{"source": data_source(job, "")}],
    )
    if held_out := names(given.take("eval_dataset")):
        job.put("evaluation.source", _dataset(job, held_out[0], known.get(held_out[0]), 0))
    share = given.number("val_size")
    if share is not None:
        job.put(
            "evaluation.fraction" if share < 1 else "evaluation.maxExamples",
            number_text(min(share, 0.5)) if share < 1 else int(share),
        )


def _dataset_info(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / "dataset_info.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _dataset(job: Imported, name: str, entry: Any, number: int) -> dict[str, Any]:
    """Return a data set by its entry in dataset_info.json; without one its name is all that is known."""
    if not isinstance(entry, Mapping):
        return {"source": data_source(job, name if "/" in name or "." in name else f"./{name}.jsonl", number)}
    one = Reader(entry, f"dataset_info.json {name}.")
    if one.flag("ranking"):
        raise FinetuneError(f"data set {name} holds preferences (ranking: true); {ONLY}")
    hub, file = one.text("hf_hub_url"), one.text("file_name")
    found: dict[str, Any] = {"source": data_source(job, hub or f"./{file}", number)}
    named = {"config": one.text("subset"), "split": split_of(job, one.text("split"))}
    found |= {key: value for key, value in named.items() if value}
    columns, tags, form = one.inside("columns"), one.inside("tags"), one.text("formatting")
    one.take("ms_hub_url", "om_hub_url", "script_url", "num_samples", "cloud_file_name")
    chosen = {
        role: column
        for field, role in COLUMNS.items()
        if (column := columns.text(field)) and ALPACA.get(field) != column
    }
    chosen |= {
        key: tag for key, field in (("role", "role_tag"), ("content", "content_tag")) if (tag := tags.text(field))
    }
    if chosen and not (form == "sharegpt" and chosen == {"messages": "conversations"}):
        found["columns"] = chosen
    roles = {role: [tag] for role in ("user", "assistant", "system") if (tag := tags.text(f"{role}_tag"))}
    if roles:
        found["roles"] = roles
    job.leave(
        [*one.left(), *columns.left(), *tags.left()],
        silent=("query", "history", "tools", "observation_tag", "function_tag"),
    )
    return found
