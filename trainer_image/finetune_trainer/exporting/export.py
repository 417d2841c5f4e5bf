"""Which forms are missing, how each is made, checked and published, one after the other. Called by command.

What they are made of may have to be published first: adapters that are merged, or a model that an attempt has left (trained).

The manifest is rewritten after each form: a Pod that is killed loses the form that it was making, and no other.
"""

import gc
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from finetune_contract import MANIFEST_FILE, Artifact, ExportConfig, Outcome, RunConfig
from finetune_contract.engines import servable_by, summary
from finetune_contract.wire import from_wire, to_wire
from transformers import AutoTokenizer

from finetune_trainer.chat.stops import stop_token_ids, write_stops
from finetune_trainer.errors import UserError
from finetune_trainer.exporting import agreement, gguf, merge
from finetune_trainer.exporting.arithmetic import Arithmetic
from finetune_trainer.exporting.trained import publish_trained
from finetune_trainer.publishing.artifacts import file_digests, folder_bytes, folder_digest, versions
from finetune_trainer.publishing.base_files import keep_base_files
from finetune_trainer.publishing.card import exported_card
from finetune_trainer.publishing.licence import base_licence
from finetune_trainer.publishing.serving import (
    SERVING_FOLDER,
    publish_serving,
    serving_files,
    serving_section,
    text_digests,
)
from finetune_trainer.publishing.tokenizer_files import save_tokenizer
from finetune_trainer.storage import Role, Store, fetch_model, open_location

GGUF_SERVABLE = "llama.cpp"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The published result, and what was published of it."""

    store: Store
    manifest: dict[str, Any]
    run: RunConfig
    """That published it, called as the job that exports it: it may have been applied again under another name."""

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        """What is there, the trained adapter or model first."""
        return tuple(from_wire(Artifact, item) for item in self.manifest["artifacts"])


def silent(_: Outcome) -> None:
    """Nobody asks before the end."""


def export(config: ExportConfig, workspace: Path, tell: Callable[[Outcome], None] = silent) -> Outcome:
    """Make the forms that are not there yet. Raises ReportedError with the first thing that is wrong.

    `tell` hears of all that is published so far, each time that something is: the Pod may fail at the next form, or be killed.
    """
    first = made_first(config, workspace)
    place = published_result(config)
    if first is not None:
        tell(described(config, place, first))
    missing = [form for form in config.exports if form not in {artifact.kind for artifact in place.artifacts}]
    for further in make(config, place, missing, workspace) if missing else ():
        place = further
        tell(described(config, place, first))
    return described(config, publish_manifests(place), first)


def described(config: ExportConfig, place: Place, first: Outcome | None) -> Outcome:
    """Return what is published."""
    made = [artifact for artifact in place.artifacts if first is not None or artifact.kind in config.exports]
    return Outcome(
        outcome="Succeeded",
        reason="Published",
        message=f"published {', '.join(artifact.kind for artifact in made)}",
        artifacts=place.artifacts,
        evaluation=first.evaluation if first is not None else None,
    )


def publish_manifests(place: Place) -> Place:
    """Publish the objects that serve what is there now, unless they are there already."""
    before = place.manifest.get("servingFiles", {})
    texts = serving_files(place.run, place.artifacts)
    if before == (digests := text_digests(texts)):
        return place
    publish_serving(texts, place.store, before)
    manifest = place.manifest | {"servingFiles": digests}
    place.store.write_text(MANIFEST_FILE, json.dumps(manifest, indent=2) + "\n")
    print(f"published {place.store.uri.rstrip('/')}/{SERVING_FOLDER}: {', '.join(digests)}", flush=True)
    return replace(place, manifest=manifest)


def made_first(config: ExportConfig, workspace: Path) -> Outcome | None:
    """Make the result that the forms are made of, where no attempt has published one; None where one has."""
    if config.merge is not None:
        return make_adapter(config.merge, workspace)
    return publish_trained(config, workspace) if config.handed_over_by is not None else None


def make_adapter(run: RunConfig, workspace: Path) -> Outcome:
    """Merge the adapters of a job that trains none."""
    from finetune_trainer.combining.run import merge  # noqa: PLC0415 - the whole trainer, which no export needs

    outcome = merge(run, workspace / "merge")
    gc.collect()  # trainer and model refer to each other, and the forms need the memory
    return outcome


def published_result(config: ExportConfig) -> Place:
    """Read the manifest. Raises UserError where it is not this run's."""
    store = open_location(config.output, Role.OUTPUT)
    text = store.read_text(MANIFEST_FILE)
    manifest = json.loads(text) if text is not None else {}
    if manifest.get("runDigest") != config.run_digest:
        raise UserError(
            "OutputOccupied",
            f"{store.uri} does not hold the result of this run any more ({MANIFEST_FILE} is missing or another run's): delete the job "
            "and apply it again with another output.destination",
        )
    run = from_wire(RunConfig, manifest["run"])
    run = replace(
        run, namespace=config.namespace, name=config.name, output=config.output, serving=config.serving or run.serving
    )
    return Place(store=store, manifest=manifest, run=run)


def make(config: ExportConfig, place: Place, missing: list[str], workspace: Path) -> Iterator[Place]:
    """Make, check and publish the missing forms, and yield what is published after each."""
    whole = whole_folder(config, place, workspace)
    if "merged" in missing:
        place = publish(place, "merged", whole.folder, whole.checked)
        yield place
    forms = [form for form in missing if form != "merged"]
    if forms:
        tokenizer = AutoTokenizer.from_pretrained(whole.folder, local_files_only=True)
        wanted = gguf.Wanted(model=whole.folder, name=config.name, tokenizer=tokenizer, next_tokens=whole.next_tokens)
        for form in forms:
            folder = workspace / form
            print(f"making {form}", flush=True)
            checked = gguf.make(form, wanted, folder, scratch=workspace / "gguf-scratch")
            place = publish(place, form, folder, checked)
            shutil.rmtree(folder)
            yield place


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """A whole model in a folder, and how it answers."""

    folder: Path
    checked: str
    next_tokens: tuple[gguf.NextToken, ...]
    """For comparison with what is made of it."""


def whole_folder(config: ExportConfig, place: Place, workspace: Path) -> Whole:
    """Return the model that GGUFs are made of: merged here, merged by an earlier Pod, or trained as a whole."""
    kinds = {artifact.kind for artifact in place.artifacts}
    if "adapter" in kinds and "merged" not in kinds:
        return merge_adapter(config, place, workspace)
    folder = fetched(place, "merged" if "merged" in kinds else "model", workspace)
    tokens = agreement.rows(AutoTokenizer.from_pretrained(folder, local_files_only=True), place.run.evaluation.prompts)
    told = agreement.log_probabilities(merge.whole_model(folder, config.model, merge.sixteen_bit(folder)), tokens)
    return Whole(folder=folder, checked="", next_tokens=gguf.next_tokens(told, tokens))


def merge_adapter(config: ExportConfig, place: Place, workspace: Path) -> Whole:
    """Merge, save, read back, and compare with base and adapter."""
    print("fetching the base model and the adapter", flush=True)
    base, adapter = fetch_model(config.model, workspace / "model"), fetched(place, "adapter", workspace)
    tokenizer = AutoTokenizer.from_pretrained(adapter, local_files_only=True)
    tokens, dtype = agreement.rows(tokenizer, place.run.evaluation.prompts), merge.sixteen_bit(base)
    tuned = merge.with_adapter(merge.whole_model(base, config.model, dtype), adapter, place.artifacts[0].uri)
    with tuned.disable_adapter():
        before = agreement.log_probabilities(tuned, tokens)
    wanted = agreement.log_probabilities(tuned, tokens)
    print(f"merging in {str(dtype).removeprefix('torch.')}", flush=True)
    folder = workspace / "merged"
    arithmetic = Arithmetic.of(adapter)
    whole = merge.merged(tuned, dtype, arithmetic)
    del tuned
    merge.save(whole, folder)
    written = merge.fingerprints(whole)
    del whole
    save_tokenizer(tokenizer, folder)
    if learned := stop_token_ids(adapter):
        write_stops(base, folder, learned)
    keep_base_files(base, folder)
    read = merge.whole_model(folder, config.model, dtype)
    merge.assert_read_back(written, merge.fingerprints(read))
    found = agreement.log_probabilities(read, tokens)
    agreed = f"{agreement.assert_merged(before, wanted, found)}, {arithmetic}"
    print(f"the merged model agrees with base and adapter: {agreed}", flush=True)
    return Whole(folder=folder, checked=f"base + adapter: {agreed}", next_tokens=gguf.next_tokens(found, tokens))


def fetched(place: Place, kind: str, workspace: Path) -> Path:
    """Bring a published folder here. Raises UserError where its files are not those that were published."""
    below = [file.path for file in place.store.files(kind)]
    folder = place.store.fetch(workspace / "published", below) / kind
    artifact = next(one for one in place.artifacts if one.kind == kind)
    known = (
        place.manifest["exports"][kind]["files"]
        if kind in place.manifest.get("exports", {})
        else place.manifest["files"]
    )
    read = {
        name: digest for name, digest in file_digests(folder).items() if name in known
    }  # others are nobody's: .DS_Store
    if (found := folder_digest(read)) != artifact.digest:
        raise UserError(
            "ExportFailed",
            f"the files at {artifact.uri} are not those that were published ({found} instead of {artifact.digest}): restore them",
        )
    return folder


def publish(place: Place, kind: str, folder: Path, checked: str) -> Place:
    """Upload a form with its card, then name it in the manifest. Repeating it is harmless."""
    result = place.artifacts[0]
    artifact = replace(
        result,
        kind=kind,
        uri=place.store.address_of(kind),
        lora_rank=0,
        servable=summary(servable_by((), 0)).replace(f", {GGUF_SERVABLE}", "") if kind == "merged" else GGUF_SERVABLE,
        checked=checked,
    )
    others = tuple(one for one in place.artifacts if one.kind != kind)
    served = serving_section(place.run, serving_files(place.run, (*others, artifact)))
    card = exported_card(place.run, result, kind, checked, base_licence(place.run.model))
    (folder / "README.md").write_text(card + (served and f"\n{served}"))
    digests = file_digests(folder)
    size = folder_bytes(folder)
    place.store.upload(folder, kind)
    artifact = replace(artifact, uri=place.store.address_of(kind), digest=folder_digest(digests), size_bytes=size)
    exports = place.manifest.get("exports", {}) | {kind: {"files": digests, "versions": versions()}}
    manifest = place.manifest | {"artifacts": [*map(to_wire, others), to_wire(artifact)], "exports": exports}
    place.store.write_text(MANIFEST_FILE, json.dumps(manifest, indent=2) + "\n")
    print(f"published {artifact.uri}", flush=True)
    return replace(place, manifest=manifest)
