"""The run file between versions: operators are upgraded, and rolled back, while jobs stay on the trainer image they are pinned to."""

import dataclasses
import json
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import Any

import finetune_contract as contract
import pytest
from finetune_contract import wire
from finetune_contract.names import TERMINATION_MESSAGE_BYTES
from finetune_contract.report import outcome_text, parse_outcome, parse_progress, progress_line
from finetune_contract.run_file import OPTIONAL, UnknownFields, read, write
from finetune_operator.manifests.run_config import preflight_config, run_config

from tests.unit.manifests.manifest_builders import RICH, a_pinned_job

RELEASED = Path(__file__).parents[1] / "data" / "run-file-defaults.json"
REQUIRED = "required"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """A struct that the next version has."""

    count: int = 1
    schedule: str = "even"


LayoutOfTomorrow = make_dataclass(
    "Layout",
    [("stages", Stages, field(default_factory=Stages))],
    bases=(contract.Layout,),
    frozen=True,
    kw_only=True,
)

RunOfTomorrow = make_dataclass(
    "RunConfig",
    [("carbon_grams", int | None, field(default=None, metadata=OPTIONAL)), ("shuffle", str, "rows")],
    bases=(contract.RunConfig,),
    frozen=True,
    kw_only=True,
)


def a_run() -> contract.RunConfig:
    job = a_pinned_job(replicas=2, **RICH)
    return run_config(job, job.status, 1)


def tomorrows(**changes: Any) -> Any:
    """Return the same run as an operator of the next version writes it."""
    run = a_run()
    return RunOfTomorrow(**{one.name: getattr(run, one.name) for one in dataclasses.fields(run)} | changes)


def layout(**changes: Any) -> Any:
    """Return a layout with what the next version knows of it."""
    run = a_run()
    return LayoutOfTomorrow(
        **{one.name: getattr(run.layout, one.name) for one in dataclasses.fields(run.layout)} | changes
    )


def test_a_run_file_reads_back():
    """As it was written, and smaller: what has its default is not in it."""
    job = a_pinned_job(replicas=2, **RICH)
    for config in (a_run(), preflight_config(job, 1)):
        assert read(type(config), write(config)) == config
        assert len(write(config)) < len(wire.dumps(config))


def test_a_whole_configuration_is_read_too():
    """As commands on one machine write it, and as jobs of earlier operators have it."""
    assert read(contract.RunConfig, wire.dumps(a_run())) == a_run()


def test_what_a_job_does_not_use_its_trainer_need_not_know():
    """The next version's fields are at their defaults in a job that this version planned."""
    assert read(contract.RunConfig, write(tomorrows(layout=layout()))) == a_run()


def test_what_a_run_can_do_without_is_left_out():
    """A figure for the record, which only a trainer of the next version writes down."""
    assert read(contract.RunConfig, write(tomorrows(carbon_grams=12))) == a_run()


def test_the_cost_of_earlier_attempts_is_no_reason_to_fail():
    """A trainer that is older than that field."""
    kept = [one for one in dataclasses.fields(contract.RunConfig) if one.name != "cost_so_far"]
    yesterdays = make_dataclass("RunConfig", [(one.name, one.type, one) for one in kept], frozen=True, kw_only=True)
    yesterdays.__module__ = contract.RunConfig.__module__
    run = a_run()
    assert run.cost_so_far is not None

    found: Any = read(yesterdays, write(run))

    assert found.layout == run.layout


def test_what_would_change_the_result_is_refused_by_name():
    """Each field, wherever it is; never the fields that a run can do without."""
    changed = tomorrows(carbon_grams=12, shuffle="blocks", layout=layout(stages=Stages(count=4)))
    with pytest.raises(UnknownFields) as refused:
        read(contract.RunConfig, write(changed))

    assert refused.value.paths == ("layout.stages", "shuffle")


@pytest.mark.parametrize("text", ["[]", '{"namespace":7}', "{}", "no JSON"])
def test_a_file_that_is_none_is_refused(text: str):
    """Missing fields, wrong types, something else altogether."""
    with pytest.raises(ValueError, match=r"RunConfig|Expecting"):
        read(contract.RunConfig, text)


def test_texts_in_other_scripts_are_not_blown_up():
    """An annotation holds 256 KiB: a Chinese letter takes three bytes of it, not six."""
    model = contract.Model(location=contract.Location(uri="hf://a/模型"))

    assert write(model) == '{"location":{"uri":"hf://a/模型"}}'
    assert read(contract.Model, write(model)) == model


def test_defaults_of_a_release_never_change():
    """They are not written, so that both sides must know the same ones. A new field has a default: older operators do not write it."""
    released, now = json.loads(RELEASED.read_text()), defaults()

    assert {name: now.get(name) for name in released} == released
    assert [name for name in now.keys() - released.keys() if now[name] == REQUIRED] == []


def defaults() -> dict[str, Any]:
    """Return each field of the structs in a run file with its default."""
    kinds: list[Any] = [contract.RunConfig, contract.PreflightConfig, contract.ExportConfig]
    found: dict[str, Any] = {}
    for kind in kinds:
        hints, _ = wire._fields(kind)
        for one in dataclasses.fields(kind):
            found[f"{kind.__name__}.{wire.camel(one.name)}"] = default_of(one)
            kinds += [each for each in structs(hints[one.name]) if each not in kinds]
    return found


def default_of(one: "dataclasses.Field[Any]") -> Any:
    if one.default_factory is not dataclasses.MISSING:
        return wire.to_wire(one.default_factory())
    return REQUIRED if one.default is dataclasses.MISSING else wire.to_wire(one.default)


def structs(hint: Any) -> list[Any]:
    """Return the dataclasses in a type."""
    if dataclasses.is_dataclass(hint):
        return [hint]
    return [each for inner in getattr(hint, "__args__", ()) for each in structs(inner)]


OutcomeOfTomorrow = make_dataclass(
    "Outcome", [("carbon_grams", int, 12)], bases=(contract.Outcome,), frozen=True, kw_only=True
)
ProgressOfTomorrow = make_dataclass(
    "Progress", [("carbon_grams", int, 12)], bases=(contract.Progress,), frozen=True, kw_only=True
)


def test_an_operator_that_was_rolled_back_hears_newer_trainers():
    """What they report beside is left out; that they have published is not."""
    said = outcome_text(OutcomeOfTomorrow(outcome="Succeeded", reason="Published", message="adapter published", step=7))
    line = progress_line(ProgressOfTomorrow(phase="training", step=3, total_steps=7))

    assert "carbonGrams" in said
    assert parse_outcome(said) == contract.Outcome(
        outcome="Succeeded", reason="Published", message="adapter published", step=7
    )
    assert parse_progress(line) == contract.Progress(phase="training", step=3, total_steps=7)
    assert len(said) <= TERMINATION_MESSAGE_BYTES
