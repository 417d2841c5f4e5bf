"""Which tool a file is from. Called by import_job."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finetune_operator.cli.importing import axolotl, kaito, kubeflow, llamafactory, openai, trl
from finetune_operator.cli.importing.flags import from_script, is_script
from finetune_operator.cli.importing.imported import Imported
from finetune_operator.cli.init_text import name_of
from finetune_operator.cli.manifest_file import manifests, naming
from finetune_operator.errors import FinetuneError

READ = "KAITO Workspaces, PyTorchJobs and TrainJobs with known trainers, axolotl, LLaMA-Factory, TRL and OpenAI fine-tuning jobs are read"


def imported(text: str, path: Path, name: str) -> Imported:
    """Return the job of a file. Raises FinetuneError where its tool is not known, or trains what cannot be trained here."""
    if is_script(text):
        return from_script(text, name or name_of(path.name))
    with naming(path):
        documents = _objects(text)
    for document in documents:
        title = name or job_name(document, path)
        if kaito.recognises(document):
            return kaito.convert(document, documents, title)
        if kubeflow.recognises(document):
            return kubeflow.convert(document, title)
        if openai.recognises(document):
            return openai.convert(document, title)
        if axolotl.recognises(document):
            return axolotl.convert(document, title)
        if llamafactory.recognises(document):
            return llamafactory.convert(document, title, path.parent)
        if trl.recognises(document):
            return trl.convert(document, title)
    kinds = ", ".join(sorted({str(document.get("kind") or "settings") for document in documents})) or "nothing"
    raise FinetuneError(f"{path} holds {kinds}, which is not a job of a known tool: {READ}")


def job_name(document: Mapping[str, Any], path: Path) -> str:
    """Return the name of the object, or of the file."""
    metadata = document.get("metadata")
    own = metadata.get("name") if isinstance(metadata, Mapping) else None
    return name_of(re.sub(r"[.]", "-", str(own))) if own else name_of(path.name)


def _objects(text: str) -> list[dict[str, Any]]:
    """Return the objects of a YAML or JSON text; a list of the API (`data`) as its items."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):  # YAML, or what manifests refuses
        return manifests(text)
    items = found.get("data", [found]) if isinstance(found, dict) else found
    return [each for each in items if isinstance(each, dict)] if isinstance(items, list) else []
