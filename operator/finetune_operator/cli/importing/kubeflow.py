"""A Kubeflow PyTorchJob or TrainJob whose trainer is known: torchtune's runtimes, TRL, LLaMA-Factory's flags, or train() of the SDK."""

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from finetune_operator.cli.importing.flags import from_flags
from finetune_operator.cli.importing.hf_arguments import PLANNED, SILENT, put_lora, put_training
from finetune_operator.cli.importing.imported import Imported, data_source, destination, model_source, whole
from finetune_operator.cli.importing.reader import Reader

TOOL = "Kubeflow"
KINDS = ("PyTorchJob", "TrainJob")
RUNTIMES = {
    "torchtune-llama3.2-1b": "meta-llama/Llama-3.2-1B-Instruct",
    "torchtune-llama3.2-3b": "meta-llama/Llama-3.2-3B-Instruct",
    "torchtune-llama3.3-70b": "meta-llama/Llama-3.3-70B-Instruct",
    "torchtune-qwen2.5-1.5b": "Qwen/Qwen2.5-1.5B-Instruct",
}


def recognises(document: Mapping[str, Any]) -> bool:
    """Tell a job of Kubeflow from other objects."""
    return document.get("kind") in KINDS and "kubeflow.org/" in str(document.get("apiVersion", ""))


def convert(document: Mapping[str, Any], name: str) -> Imported:
    """Return the job. Raises FinetuneError where the trainer is not known."""
    spec = document.get("spec") or {}
    if document["kind"] == "TrainJob":
        return _train_job(spec, name)
    return from_flags(list(_words(spec)), name, f"{TOOL} PyTorchJob")


def _train_job(spec: Mapping[str, Any], name: str) -> Imported:
    given = Reader(spec)
    runtime, trainer = given.inside("runtimeRef").text("name"), given.inside("trainer")
    initializer = given.inside("initializer")
    words = [str(word) for word in (*(trainer.take("command") or ()), *(trainer.take("args") or ()))]
    base, rows = initializer.inside("model"), initializer.inside("dataset")
    model, data = base.text("storageUri") or RUNTIMES.get(runtime, ""), rows.text("storageUri")
    if not runtime.startswith("torchtune") and not model:
        return from_flags(words, name, f"{TOOL} TrainJob")
    job = Imported(tool=f"{TOOL} TrainJob", name=name)
    job.put("model.source", model_source(job, model))
    settings = Reader({**dict(word.split("=", 1) for word in words if "=" in word)})
    job.put("datasets", [{"source": data_source(job, _repository(data))}])
    for place, one in (("spec.model", base), ("spec.datasets[0]", rows)):
        if secret := one.inside("secretRef").text("name"):
            job.fill_in.append(f"{place}.credentials: the Secret {secret}, with the key HF_TOKEN or the AWS_ keys")
    if config := settings.text("dataset.train_on_input"):
        job.put("chat.trainOn", "all" if config.lower() == "true" else None)
    _put_torchtune(job, settings)
    job.put("output.destination", destination(job, "the model in the TrainJob's volume"))
    nodes = trainer.take("numNodes", "numProcPerNode", "resourcesPerNode")
    if nodes is not None:
        job.planned.append(
            "trainer numNodes, numProcPerNode, resourcesPerNode: the planner chooses the GPUs (spec.resources)"
        )
    if env := trainer.take("env"):
        job.dropped.append(f"trainer env: {len(env)} variables")
    job.leave([*settings.left(), *trainer.left()], PLANNED, SILENT)
    return job


def _put_torchtune(job: Imported, given: Reader) -> None:
    """Read the overrides of a torchtune recipe: `model.lora_rank=8`."""
    lora = {name: given.take(f"model.{name}") for name in ("lora_rank", "lora_alpha", "lora_dropout")}
    modules = given.text("model.lora_attn_modules").strip("[]").translate(str.maketrans("", "", "'\" "))
    modules = modules.replace("output_proj", "o_proj")
    if given.flag("model.apply_lora_to_mlp"):
        modules = f"{modules},gate_proj,up_proj,down_proj".strip(",")
    four_bits, dora = given.flag("model.quantize_base"), given.flag("model.use_dora")
    adapter = any(value is not None for value in lora.values()) or bool(modules)
    job.put("method", "qlora" if four_bits else "lora" if adapter else "full")
    if adapter:
        put_lora(job, Reader({**lora, "target_modules": modules}))
        job.put("lora.variant", "dora" if dora else None)
    same = ("epochs", "batch_size", "gradient_accumulation_steps")
    training = {name: given.take(name) for name in same} | {
        "learning_rate": given.take("optimizer.lr"),
        "max_steps": given.take("max_steps_per_epoch"),
    }
    put_training(job, Reader(training))
    job.put("training.sequenceLength", whole(given.number("tokenizer.max_seq_len")))


def _repository(uri: str) -> str:
    """Return the data set of a storageUri: below hf:// a path may follow ORG/NAME."""
    return "/".join(uri.split("/")[:4]) if uri.startswith("hf://") else uri


def _words(value: Any) -> Iterator[str]:
    """Yield the words of every command and argument of the Pods, wherever they are in a PyTorchJob."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key in ("command", "args") and isinstance(inner, list):
                for word in map(str, inner):
                    yield from (
                        shlex.split(word)
                        if " --" in word or word.startswith(("trl ", "accelerate ", "python "))
                        else [word]
                    )
            else:
                yield from _words(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _words(inner)
