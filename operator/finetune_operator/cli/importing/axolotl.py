"""A configuration of axolotl (docs.axolotl.ai, config reference) as a job."""

from collections.abc import Mapping
from typing import Any

from finetune_operator.cli.importing.hf_arguments import PLANNED, SILENT, put_lora, put_training
from finetune_operator.cli.importing.imported import (
    ONLY,
    Imported,
    data_source,
    destination,
    model_source,
    number_text,
    short,
    split_of,
    whole,
)
from finetune_operator.cli.importing.reader import Reader
from finetune_operator.errors import FinetuneError

TOOL = "axolotl"
COLUMNS = {
    "field_messages": "messages", "field_instruction": "prompt", "field_output": "completion", "field": "text", "field_system": "system",
    "message_field_role": "role", "message_field_content": "content",
}  # fmt: skip
QUIET = ("eval_sample_packing", "flash_attn_rms_norm", "eval_table_size", "eval_max_new_tokens", "plugins")
OF_DATA = ("chat_template", "roles_to_train", "train_on_eos", "conversation")
DEFAULTS = {"micro_batch_size": 1, "gradient_accumulation_steps": 1, "num_epochs": 1, "lr_scheduler": "cosine"}
PREFERENCES = ("dpo", "ipo", "orpo", "kto", "simpo", "grpo", "bt", "prm")


def recognises(settings: Mapping[str, Any]) -> bool:
    """Tell a configuration of axolotl from others."""
    return "base_model" in settings and (
        "datasets" in settings or "pretraining_dataset" in settings or "micro_batch_size" in settings
    )


def convert(settings: Mapping[str, Any], name: str) -> Imported:
    """Return the job. Raises FinetuneError for what cannot be trained here."""
    given, job = Reader(settings, defaults=DEFAULTS), Imported(tool=TOOL, name=name)
    kind = given.text("rl", "rlhf").lower()
    if kind or given.flag("reward_model", "process_reward_model"):
        raise FinetuneError(f"it trains on preferences or rewards ({kind or 'reward_model'}); {ONLY}")
    job.put("model.source", model_source(job, given.text("base_model")))
    job.put("model.revision", given.text("revision_of_model", "base_model_revision"))
    given.take("base_model_config", "tokenizer_config", "base_model_ignore_patterns")
    if given.flag("trust_remote_code"):
        job.fill_in.append("spec.model.trustRemoteCode: needs model.revision, a full commit id")
    _put_data(job, given)
    adapter, four = given.text("adapter").lower(), given.flag("load_in_4bit")
    given.take("load_in_8bit")
    job.put("method", {"lora": "qlora" if four else "lora", "qlora": "qlora"}.get(adapter, "full"))
    if adapter:
        put_lora(job, given)
    job.put("training.sequenceLength", whole(given.number("sequence_len")))
    if given.flag("sample_packing"):
        job.put("training.packing", "always")
    put_training(job, given)
    if patience := whole(given.number("early_stopping_patience")):
        job.put("training.earlyStopping.patience", patience)
    if often := whole(given.number("evals_per_epoch")):
        job.differs.append(
            f"evals_per_epoch: {often}: by default a run is evaluated about 20 times here (evaluation.everySteps)"
        )
    if given.flag("train_on_inputs"):
        job.put("chat.trainOn", "all")
    job.put("chat.template", "chatml" if given.text("chat_template") == "chatml" else None)
    job.put("output.destination", destination(job, given.text("output_dir"), given.text("hub_model_id")))
    if tokens := given.take("special_tokens", "tokens"):
        job.differs.append(f"special tokens {short(tokens)}: the tokenizer is used as it is; none are added")
    job.leave(
        given.left(),
        PLANNED,
        (*SILENT, *QUIET),
    )
    return job


def _put_data(job: Imported, given: Reader) -> None:
    text = given.take("pretraining_dataset")
    entries = given.take("datasets") or []
    if text is not None:
        job.put("objective", "cpt")
        entries = text if isinstance(text, list) else [text]
    found = [_dataset(job, entry, number) for number, entry in enumerate(entries)]
    job.put("datasets", found or [{"source": data_source(job, "")}])
    tests = given.take("test_datasets") or []
    if tests:
        job.put("evaluation.source", {"source": data_source(job, str(tests[0].get("path", "")))})
    share = given.number("val_set_size")
    if share is not None and not tests:
        if share >= 1:
            job.put("evaluation.maxExamples", int(share))
        else:
            job.put("evaluation.fraction", number_text(min(share, 0.5)) if share else "0")


def _dataset(job: Imported, entry: Any, number: int) -> dict[str, Any]:
    one = Reader(entry if isinstance(entry, Mapping) else {"path": entry}, f"datasets[{number}].")
    files = one.take("data_files")
    path = str(files[0] if isinstance(files, list) else files or one.text("path"))
    one.take("path", "ds_type", "shards", "trust_remote_code")
    found: dict[str, Any] = {"source": data_source(job, path, number)}
    if config := one.text("name"):
        found["config"] = config
    if split := split_of(job, one.text("split")):
        found["split"] = split
    if revision := one.text("revision"):
        found["revision"] = revision
    form = one.take("type")
    own = Reader(form, f"datasets[{number}].type.") if isinstance(form, Mapping) else one
    mapping = one.inside("message_property_mappings")
    columns = {role: name for field, role in COLUMNS.items() if (name := own.text(field))}
    columns |= {key: name for key in ("role", "content") if (name := mapping.text(key))}
    if columns:
        found["columns"] = columns
    roles = one.take("roles")
    if isinstance(roles, Mapping):
        found["roles"] = {
            role: words for role, words in roles.items() if role in ("user", "assistant", "system", "tool")
        }
    if isinstance(form, str):
        if any(word in form.lower() for word in PREFERENCES):
            raise FinetuneError(f"datasets[{number}] is of type {form}, which holds preferences; {ONLY}")
        job.differs.append(
            f"datasets[{number}].type {form}: format and prompt are found in the data here: see `finetune data preview`"
        )
    job.leave(
        [*one.left(), *(own.left() if own is not one else [])],
        silent=OF_DATA,
    )
    return found
