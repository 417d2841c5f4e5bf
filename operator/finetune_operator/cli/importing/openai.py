"""A fine-tuning job of OpenAI's API (the fine_tuning.job object, or the body of its creation) as a job."""

from collections.abc import Mapping
from typing import Any

from finetune_operator.cli.importing.imported import ONLY, PLACE, Imported, destination, whole
from finetune_operator.cli.importing.reader import Reader
from finetune_operator.errors import FinetuneError

TOOL = "OpenAI"
OPEN_MODEL = "hf://meta-llama/Llama-3.1-8B-Instruct"
"""Where a model cannot be downloaded: the size that people choose instead of the small ones of the API."""

OF_THE_API = tuple(
    """
    object id created_at finished_at organization_id result_files status trained_tokens error user_provided_suffix
    estimated_finish integrations metadata fine_tuned_model updated_at usage_metrics shared_with_openai eval_id
    """.split()
)


def recognises(document: Mapping[str, Any]) -> bool:
    """Tell a fine-tuning job from other JSON."""
    return document.get("object") == "fine_tuning.job" or ("training_file" in document and "model" in document)


def convert(document: Mapping[str, Any], name: str) -> Imported:
    """Return the job. Raises FinetuneError for methods other than supervised."""
    given, job = Reader(document), Imported(tool=TOOL, name=name)
    method = given.inside("method")
    kind = method.text("type") or "supervised"
    if kind != "supervised":
        raise FinetuneError(f"method {kind} trains on preferences or rewards; {ONLY}")
    model, suffix = given.text("model"), given.text("suffix", "user_provided_suffix")
    job.put("model.source", OPEN_MODEL)
    job.fill_in.append(
        f"spec.model.source: {model or 'the model'} cannot be downloaded; choose an open model (`finetune models`)"
    )
    job.put("datasets", [{"source": _file(job, given.text("training_file"), "spec.datasets[0].source")}])
    if held_out := given.text("validation_file"):
        job.put("evaluation.source.source", _file(job, held_out, "spec.evaluation.source.source"))
    settings, older = method.inside("supervised").inside("hyperparameters"), given.inside("hyperparameters")
    for one in (settings, older):
        job.put("training.epochs", whole(one.number("n_epochs")))
        job.put("training.globalBatchSize", whole(one.number("batch_size")))
        if factor := one.number("learning_rate_multiplier"):
            job.differs.append(
                f"learning_rate_multiplier {factor:g}: multiply the learning rate that `finetune plan` shows by it, and set "
                "training.learningRate"
            )
    job.put("training.seed", whole(given.number("seed")))
    job.put("output.destination", destination(job, f"the model with suffix {suffix}" if suffix else ""))
    job.leave(
        [*given.left(), *settings.left(), *older.left(), *method.left()], silent=(*OF_THE_API, "n_epochs", "batch_size")
    )
    return job


def _file(job: Imported, name: str, field: str) -> str:
    if "://" in name:
        return name
    job.fill_in.append(f"{field}: download {name or 'the file'} from the API's files, upload it, and set its URI")
    return f"{PLACE}data/{name or 'train'}.jsonl"
