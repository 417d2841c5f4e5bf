"""A model that an attempt has trained and left to be published: its weights are those of a checkpoint. Called by export.

It may be repeated at any moment: what was handed over goes only when the manifest is there.
"""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from finetune_contract import COMPLETE_MARKER, ExportConfig, Outcome
from finetune_contract.wire import loads

from finetune_trainer.checkpoints.checkpoints import BEST_NAME, CHECKPOINT_NAME, parsed_marker
from finetune_trainer.checkpoints.digests import damaged
from finetune_trainer.checkpoints.holder import refuse_if_overtaken
from finetune_trainer.errors import ReportedError, UserError
from finetune_trainer.evaluation.record import FOLDER as RECORD_FOLDER
from finetune_trainer.exporting.rewriting import dropped_from, planned, write
from finetune_trainer.publishing import artifacts
from finetune_trainer.storage import Role, Store, open_location
from finetune_trainer.storage.formats import INDEX_ENDING, WEIGHTS
from finetune_trainer.storage.secrecy import redacted
from finetune_trainer.training.handed_over import MODEL_FOLDER, RESULT_FILE, HandedOver, Weights, result_folder


def publish_trained(config: ExportConfig, workspace: Path) -> Outcome:
    """Publish the model, unless an earlier Pod has. Raises ReportedError with the first thing that is wrong."""
    output, checkpoints = open_location(config.output, Role.OUTPUT), open_location(config.checkpoint, Role.CHECKPOINT)
    assert config.handed_over_by is not None
    name = result_folder(config.handed_over_by)
    done = artifacts.already_published(output, config.run_digest)
    if done is None:
        try:
            done = published(config, output, checkpoints, name, workspace)
        except ReportedError:  # a Pod on a node that was given up may have finished meanwhile, and removed what we read
            if (done := artifacts.already_published(output, config.run_digest)) is None:
                raise
    forget(checkpoints, name)
    return done


def forget(checkpoints: Store, name: str) -> None:
    """Remove what was handed over. The model is published: that it stays is said, and no failure."""
    try:
        checkpoints.delete(f"{name}/{COMPLETE_MARKER}")  # first: what is half removed must not look whole
        checkpoints.delete(name)
    except ReportedError as error:
        print(redacted(f"{checkpoints.uri}/{name} could not be removed: {error.message}"), flush=True)


def published(config: ExportConfig, output: Store, checkpoints: Store, name: str, workspace: Path) -> Outcome:
    """Fetch, put together, and publish as an attempt does."""
    left = handed_over_folder(config, checkpoints, name, workspace)
    handed = loads(HandedOver, (left / RESULT_FILE).read_text(encoding="utf-8"))
    if handed.run.uid != config.uid:
        raise UserError("PublishFailed", f"{checkpoints.uri}/{name} was left by another job of this name")
    run = replace(
        handed.run, namespace=config.namespace, name=config.name, model=config.model, output=config.output,
        serving=config.serving or handed.run.serving,
    )  # fmt: skip
    refuse_if_overtaken(checkpoints, handed.run, handed.holder)
    print(f"fetching the weights of {handed.weights.folder}", flush=True)
    weights = fetched(checkpoints, handed.weights.folder, handed.weights.files, workspace)
    folder = workspace / "publish" / MODEL_FOLDER
    put_together(weights, handed.weights, folder)
    linked(left / MODEL_FOLDER, folder)
    if (left / RECORD_FOLDER).is_dir():
        linked(left / RECORD_FOLDER, folder.parent / RECORD_FOLDER)
    artifacts.write_card(folder, run, handed.published)
    refuse_if_overtaken(checkpoints, handed.run, handed.holder)
    artifact = artifacts.publish(folder, output, run, handed.published)
    print(f"published {artifact.uri}", flush=True)
    return Outcome(
        outcome="Succeeded", reason="Published", message=f"published model after {handed.published.steps} steps",
        step=handed.published.steps, evaluation=handed.published.evaluation, artifacts=(artifact,),
    )  # fmt: skip


def handed_over_folder(config: ExportConfig, checkpoints: Store, name: str, workspace: Path) -> Path:
    """Return the folder that the attempt left. Raises UserError where it is not whole, or another run's."""
    marker = parsed_marker(checkpoints.read_text(f"{name}/{COMPLETE_MARKER}"))
    if marker is None or marker.run_digest != config.run_digest:
        what = "is gone" if marker is None else "is another run's"
        raise UserError("PublishFailed", f"{checkpoints.uri}/{name}, which the attempt left, {what}")
    return fetched(checkpoints, name, marker.files, workspace)


def fetched(checkpoints: Store, name: str, files: dict[str, str], workspace: Path) -> Path:
    """Bring some files of a folder here. Raises UserError unless all of them are what was written."""
    there = {file.path for file in checkpoints.files(name)}
    wanted = [path for path in (f"{name}/{file}" for file in files) if path in there]
    folder = checkpoints.fetch(workspace / "trained", wanted) / name
    if wrong := damaged(folder, files):
        raise UserError(
            "PublishFailed",
            f"{checkpoints.uri}/{name} is damaged: {len(wrong)} of {len(files)} files differ from what was written (first {wrong[0]})"
            f"{remedy(name)}",
        )
    return folder


def remedy(name: str) -> str:
    """Say what to do about a damaged folder, beside applying the job again."""
    if BEST_NAME.match(name):
        return "; restore them: the run cannot be published without its best weights"
    return "; restore them, or the steps since an older one are trained again" if CHECKPOINT_NAME.match(name) else ""


def put_together(source: Path, weights: Weights, folder: Path) -> None:
    """Make the model's own files: as they are, or written anew where a tensor must be cast or left out."""
    shards = [name for name in weights.files if name.endswith(WEIGHTS)]
    others = [name for name in weights.files if name not in shards]
    linked(source, folder, others)
    sizes, names = 0, set[str]()
    for name in shards:
        tensors = planned(source / name, weights)
        if all(tensor.dtype == tensor.stored for tensor in tensors) and not dropped_from(source / name, weights):
            linked(source, folder, [name])
        else:
            (folder / name).unlink(missing_ok=True)
            write(source / name, folder / name, tensors)
        sizes, names = sizes + sum(tensor.size for tensor in tensors), names | {tensor.name for tensor in tensors}
    for index in (name for name in others if name.endswith(INDEX_ENDING)):
        described = json.loads((source / index).read_text(encoding="utf-8"))
        described["metadata"]["total_size"] = sizes
        described["weight_map"] = {name: file for name, file in described["weight_map"].items() if name in names}
        written(folder / index, described)
    written(folder / "config.json", json.loads((source / "config.json").read_text()) | {"dtype": weights.dtype})


def linked(source: Path, folder: Path, names: Iterable[str] | None = None) -> None:
    """Show files of one folder in another, in the place of what is there; all of them, those of inner folders too, or some.

    Folders are made and not linked: what is published is found by a walk that follows no link to a folder.
    """
    listed = (
        names
        if names is not None
        else sorted(path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file())
    )
    for name in listed:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to((source / name).resolve())


def written(file: Path, described: dict[str, Any]) -> None:
    """Write what transformers would, in the place of a link."""
    file.unlink(missing_ok=True)
    file.write_text(json.dumps(described, indent=2, sort_keys=True) + "\n", encoding="utf-8")
