"""The end of a run: its result is published, or left to a Pod without GPUs. Called by train."""

import json
from pathlib import Path

import torch
from finetune_contract import TRAINED, Artifact, Outcome, RunConfig

from finetune_trainer.chat.stops import write_stops
from finetune_trainer.evaluation.record import finite
from finetune_trainer.model.precision import store_in
from finetune_trainer.publishing import artifacts
from finetune_trainer.publishing.base_files import keep_base_files
from finetune_trainer.publishing.published import Published, Shown
from finetune_trainer.publishing.sharded_weights import save_whole
from finetune_trainer.publishing.spent import spent
from finetune_trainer.publishing.tokenizer_files import save_tokenizer
from finetune_trainer.runtime import ranks
from finetune_trainer.runtime.progress import say
from finetune_trainer.storage import Role, open_location
from finetune_trainer.training import last_weights
from finetune_trainer.training.bench import Bench
from finetune_trainer.training.handed_over import HandedOver, Weights, leave, of_the_model
from finetune_trainer.training.measured import Compared
from finetune_trainer.training.session import Session, last_loss, measured


def publish(run: RunConfig, bench: Bench, session: Session, found: Compared) -> Outcome:
    """Publish the adapter or model, the manifest last; or leave the model to a Pod without GPUs, where that has the same weights."""
    told = facts(run, bench, session, found)
    with bench.heartbeat.busy():
        weights = stored_weights(run, session) if run.hand_over else None
        outcome = (
            published_here(run, bench, session, told)
            if weights is None
            else handed_over(run, bench, session, told, weights)
        )
        ranks.wait_for_all()
    return measured(session, bench, outcome)


def facts(run: RunConfig, bench: Bench, session: Session, found: Compared) -> Published:
    """Return what card and manifest say of the run."""
    loop = session.loop
    return Published(
        evaluation=found.result,
        metrics=tuple(Shown(name=one.metric.name, results=one.results, details=one.details) for one in found.metrics),
        history=tuple(finite(entry) for entry in loop.trainer.state.log_history),
        computation=loop.precision,
        steps=loop.trainer.state.global_step,
        final_loss=last_loss(loop.trainer),
        training_seconds=loop.clock.seconds,
        speed=loop.speed,
        spent=spent(run, bench.seconds, bench.device),
        base_type=json.loads((session.base / "config.json").read_text())["model_type"],
    )


def published_here(run: RunConfig, bench: Bench, session: Session, told: Published) -> Outcome:
    """Save the adapter or model, upload it, and write the manifest last."""
    folder = bench.workspace / "publish" / artifacts.kind(run)
    made: tuple[Artifact, ...] = ()
    save(run, session, folder)  # every process: shards are gathered here
    if ranks.rank() == 0:
        artifacts.drop_pickles(folder)
        describe(run, session, folder)
        artifacts.write_card(folder, run, told)
        session.loop.checkpoints.refuse_if_overtaken()  # two attempts' files under one manifest would be nobody's
        made = (artifacts.publish(folder, open_location(run.output, Role.OUTPUT), run, told),)
    return Outcome(
        outcome="Succeeded", reason="Published", message=f"published {artifacts.kind(run)} after {told.steps} steps",
        step=told.steps, final_loss=told.final_loss, evaluation=told.evaluation, artifacts=made,
    )  # fmt: skip


def handed_over(run: RunConfig, bench: Bench, session: Session, told: Published, weights: Weights) -> Outcome:
    """Leave what only this attempt knows beside its checkpoints: a Pod without GPUs publishes the model."""
    if ranks.rank() == 0:
        checkpoints, folder = session.loop.checkpoints, bench.workspace / "publish"
        (folder / artifacts.kind(run)).mkdir(parents=True, exist_ok=True)
        describe(run, session, folder / artifacts.kind(run))
        leave(checkpoints, folder, HandedOver(run=run, holder=checkpoints.holder, weights=weights, published=told))
    return Outcome(
        outcome="Succeeded", reason=TRAINED,
        message=f"trained {told.steps} steps; the model is published by a Pod without GPUs, from {weights.folder}",
        step=told.steps, final_loss=told.final_loss, evaluation=told.evaluation,
    )  # fmt: skip


def stored_weights(run: RunConfig, session: Session) -> Weights | None:
    """Return where the weights are stored that would be published, bit for bit; None where they are not. Every process calls it."""
    found = _stored_weights(run, session) if ranks.rank() == 0 else None
    return ranks.from_first(found)


def _stored_weights(run: RunConfig, session: Session) -> Weights | None:
    loop, sharded = session.loop, run.layout.zero_stage > 0
    model, best = loop.trainer.accelerator.unwrap_model(loop.trainer.model), loop.patience.best_slot
    if run.method == "full" and not last_weights.suffice(loop):
        say(
            f"this Pod publishes the model: its float32 masters become {_name(loop.stored)}, and checkpoints hold "
            f"{_name(last_weights.computed(loop))} copies of them"
        )
        return None
    name = best or loop.checkpoints.name_of(loop.trainer.state.global_step)
    marker = loop.checkpoints.marker(name) if name else None
    files = of_the_model(marker.files) if marker is not None else {}
    if run.method != "full" or not any(name.endswith(".safetensors") for name in files):
        say("this Pod publishes the result: no checkpoint of the last step has its weights")
        return None
    each = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    once = {name for name, _ in model.named_parameters()}
    # whose dtype sharded_weights.save_whole leaves alone, or precision.store_in
    kept = (name for name in model.state_dict() if name not in each) if sharded else model._keep_in_fp32_modules_strict  # noqa: SLF001 - the same
    # an attempt at ZeRO-2 may have written them, and this one may run without
    return Weights(
        folder=name, files=files, dtype=_name(loop.stored), kept=tuple(kept or ()), dropped=tuple(sorted(each - once))
    )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def describe(run: RunConfig, session: Session, folder: Path) -> None:
    """Put beside the weights what belongs to them: tokenizer, ends, vocabulary, and the names of what the result was made of."""
    publish_tokenizer(session, folder)
    if session.rows.learned_stops:
        write_stops(session.base, folder, session.rows.stops)
    if run.method == "full":
        keep_base_files(session.base, folder)
    artifacts.describe(folder, run)


def publish_tokenizer(session: Session, folder: Path) -> None:
    """Save the tokenizer. Its end is the one that was learned: llama.cpp, TGI and vLLM stop there."""
    learned, tokenizer = session.rows.learned_stops, session.tokenizer
    if learned and tokenizer.eos_token_id not in learned:
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(learned[0])
    save_tokenizer(tokenizer, folder)


def save(run: RunConfig, session: Session, folder: Path) -> None:
    """Write the adapter as it was trained, or the model in the dtype of its base: float32 masters stay in the checkpoints."""
    model = session.loop.trainer.accelerator.unwrap_model(session.loop.trainer.model)
    if run.method == "full" and run.layout.zero_stage:
        save_whole(model, folder, session.loop.stored, masters=not session.loop.patience.best_slot)
        return
    if run.method == "full":
        store_in(model, session.loop.stored)
    session.loop.trainer.save_model(str(folder))
