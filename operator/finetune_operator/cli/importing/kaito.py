"""A KAITO Workspace with `tuning` (kaito-project, website/docs/tuning.md) as a job."""

from collections.abc import Mapping, Sequence
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from finetune_operator.cli.importing.hf_arguments import PLANNED, SILENT, TRAINER_DEFAULTS, put_lora, put_training
from finetune_operator.cli.importing.imported import Imported, data_source, destination, model_source, number_text
from finetune_operator.cli.importing.reader import Reader
from finetune_operator.errors import FinetuneError

TOOL = "KAITO"
MODELS = {
    "phi-3-mini-4k-instruct": "microsoft/Phi-3-mini-4k-instruct",
    "phi-3-mini-128k-instruct": "microsoft/Phi-3-mini-128k-instruct",
    "phi-3-medium-4k-instruct": "microsoft/Phi-3-medium-4k-instruct",
    "phi-3-medium-128k-instruct": "microsoft/Phi-3-medium-128k-instruct",
    "phi-3.5-mini-instruct": "microsoft/Phi-3.5-mini-instruct",
    "phi-4": "microsoft/phi-4",
    "phi-4-mini-instruct": "microsoft/Phi-4-mini-instruct",
    "phi-2": "microsoft/phi-2",
    "mistral-7b": "mistralai/Mistral-7B-v0.3",
    "mistral-7b-instruct": "mistralai/Mistral-7B-Instruct-v0.3",
    "falcon-7b": "tiiuae/falcon-7b",
    "falcon-7b-instruct": "tiiuae/falcon-7b-instruct",
    "falcon-40b": "tiiuae/falcon-40b",
    "falcon-40b-instruct": "tiiuae/falcon-40b-instruct",
    "llama-3.1-8b-instruct": "meta-llama/Llama-3.1-8B-Instruct",
    "llama-3.3-70b-instruct": "meta-llama/Llama-3.3-70B-Instruct",
    "qwen2.5-coder-7b-instruct": "Qwen/Qwen2.5-Coder-7B-Instruct",
    "qwen2.5-coder-32b-instruct": "Qwen/Qwen2.5-Coder-32B-Instruct",
}
COLUMNS = {"context_column": "prompt", "response_column": "completion", "messages_column": "messages"}


def recognises(document: Mapping[str, Any]) -> bool:
    """Tell a Workspace from other objects."""
    return document.get("kind") == "Workspace" and str(document.get("apiVersion", "")).startswith("kaito.sh/")


def convert(document: Mapping[str, Any], others: Sequence[Mapping[str, Any]], name: str) -> Imported:
    """Return the job; the ConfigMap that the Workspace names is read if it is in the same file."""
    if not document.get("tuning"):
        raise FinetuneError(
            "this Workspace serves a model (inference) and does not tune one: there is nothing to import"
        )
    given, job = Reader(document), Imported(tool=TOOL, name=name)
    given.take("apiVersion", "kind", "metadata", "status")
    tuning, machine = given.inside("tuning"), given.inside("resource")
    preset = tuning.inside("preset")
    model = preset.text("name")
    job.put("model.source", model_source(job, MODELS.get(model, model)))
    job.put("method", tuning.text("method").lower() or "lora")
    _put_input(job, tuning.inside("input"))
    _put_output(job, tuning.inside("output"))
    config = tuning.text("config", "configTemplate")
    settings = _config_map(config, others)
    if settings is not None:
        _put_config(job, settings)
    elif config:
        job.fill_in.append(
            f"hyperparameters of the ConfigMap {config}: put it into the same file, or write them into spec.training"
        )
    labels = machine.take("labelSelector")
    if labels or (kind := machine.text("instanceType")):
        what = f"instanceType {kind}" if not labels else "labelSelector"
        job.planned.append(f"resource {what}: the planner chooses among the GPUPools (spec.resources)")
    machine.take("instanceType", "count", "preferredNodes")
    job.leave([*preset.left(), *tuning.left(), *machine.left(), *given.left()], PLANNED, SILENT)
    return job


def _put_input(job: Imported, given: Reader) -> None:
    urls, claim = given.take("urls") or [], _claim(given)
    if urls:
        job.put("datasets", [{"source": data_source(job, str(url), number)} for number, url in enumerate(urls)])
    elif claim:
        job.put("datasets", [{"source": f"pvc://{claim}/data"}])
        job.fill_in.append(f"spec.datasets[0].source: the path of the data in the PersistentVolumeClaim {claim}")
    else:
        image = given.text("image")
        job.put("datasets", [{"source": data_source(job, image)}])
        job.differs.append(f"input image {image}: data is not read from images: copy its /data to a bucket or volume")
    job.leave(given.left(), silent=("name", "imagePullSecrets"))


def _put_output(job: Imported, given: Reader) -> None:
    claim, image = _claim(given), given.text("image")
    if claim:
        job.put("output.destination", f"pvc://{claim}/{job.name}")
    else:
        job.put("output.destination", destination(job, f"the image {image}" if image else ""))
    job.leave(given.left(), silent=("imagePushSecret",))


def _claim(given: Reader) -> str:
    """Return the claim of a volume; v1alpha1 and v1beta1 name it differently."""
    volume = given.take("volumeSource", "volume")
    inner = volume.get("persistentVolumeClaim") if isinstance(volume, Mapping) else None
    return str(inner.get("claimName") or "") if isinstance(inner, Mapping) else ""


def _config_map(name: str, others: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return training_config of the ConfigMap; None where it is not in the file."""
    for other in others:
        if other.get("kind") == "ConfigMap" and (other.get("metadata") or {}).get("name") == name:
            try:
                found = YAML(typ="safe", pure=True).load((other.get("data") or {}).get("training_config.yaml", ""))
            except YAMLError as error:
                raise FinetuneError(f"training_config.yaml of the ConfigMap {name} is not YAML") from error
            return (found or {}).get("training_config") or {}
    return None


def _put_config(job: Imported, settings: Mapping[str, Any]) -> None:
    """Read the sections of training_config, each with the names of the library that it is handed to."""
    defaults = {"TrainingArguments": TRAINER_DEFAULTS}
    parts = {
        name: Reader(settings.get(name) or {}, f"{name}.", defaults=defaults.get(name))
        for name in (*settings, *(defaults.keys() - settings.keys()))
    }
    lora, training = (parts.get(name, Reader({})) for name in ("LoraConfig", "TrainingArguments"))
    data, quantised = (parts.get(name, Reader({})) for name in ("DatasetConfig", "QuantizationConfig"))
    if quantised.flag("load_in_4bit"):
        job.put("method", "qlora")
    put_lora(job, lora)
    put_training(job, training)
    columns = {role: column for field, role in COLUMNS.items() if (column := data.text(field))}
    for one in job.spec["datasets"] if columns else ():
        one["columns"] = columns
    share = data.number("train_test_split")
    if share is not None:
        job.put("evaluation.fraction", number_text(min(0.5, max(0.0, 1 - share))))
    training.take("output_dir")
    job.leave([item for part in parts.values() for item in part.left()], PLANNED, (*SILENT, "shuffle_dataset", "mlm"))
