"""The arguments of TRL's scripts, from a YAML file of theirs (`trl sft --config`) or as flags of a Pod, as a job."""

from collections.abc import Mapping
from typing import Any

from finetune_operator.cli.importing.hf_arguments import PLANNED, SILENT, TRAINER_DEFAULTS, put_lora, put_training
from finetune_operator.cli.importing.imported import (
    ONLY,
    Imported,
    data_source,
    destination,
    model_source,
    split_of,
    whole,
)
from finetune_operator.cli.importing.reader import Reader
from finetune_operator.errors import FinetuneError

TOOL = "TRL"
OF_PREFERENCES = ("beta", "desirable_weight", "reward_model_name_or_path", "reward_funcs", "num_generations")
"""Arguments that only scripts for preferences and rewards have."""


def recognises(settings: Mapping[str, Any]) -> bool:
    """Tell the arguments of TRL from others."""
    return "model_name_or_path" in settings and ("dataset_name" in settings or "datasets" in settings)


def convert(settings: Mapping[str, Any], name: str, tool: str = TOOL) -> Imported:
    """Return the job. Raises FinetuneError for scripts that learn from preferences or rewards."""
    if found := [key for key in OF_PREFERENCES if key in settings]:
        raise FinetuneError(f"{found[0]} is an argument of a run on preferences or rewards; {ONLY}")
    given, job = Reader(settings, defaults=TRAINER_DEFAULTS), Imported(tool=tool, name=name)
    job.put("model.source", model_source(job, given.text("model_name_or_path", "model_uri", "base_model")))
    data = given.text("repo_id", "dataset_name", "dataset_uri", "train_file", "dataset_dir", "data_path")
    found_data: dict[str, Any] = {"source": data_source(job, data)}
    if config := given.text("dataset_config"):
        found_data["config"] = config
    if split := split_of(job, given.text("split", "dataset_train_split")):
        found_data["split"] = split
    job.put("datasets", [found_data])
    adapter = given.flag("use_peft") or any(key in settings for key in ("r", "lora_r", "lora_config"))
    job.put("method", "qlora" if given.flag("load_in_4bit") else "lora" if adapter else "full")
    if adapter:
        put_lora(job, given)
    job.put("training.sequenceLength", whole(given.number("max_length", "max_seq_length", "model_max_length")))
    if given.flag("packing"):
        job.put("training.packing", "always")
    put_training(job, given)
    hub = given.text("hub_model_id") if given.flag("push_to_hub") else ""
    job.put("output.destination", destination(job, given.text("output_dir"), hub))
    job.leave(given.left(), PLANNED, (*SILENT, "model_dir", "transformer_type", "model_provider", "dataset_provider"))
    return job
