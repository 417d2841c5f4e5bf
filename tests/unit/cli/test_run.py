"""`finetune run`: its options are the settings of the operator."""

import inspect
import sys
from dataclasses import asdict

import pytest
from finetune_operator import cli
from finetune_operator.api.pod_settings import read_pod_settings
from finetune_operator.cli.run import command
from finetune_operator.controller.settings import OperatorSettings
from finetune_operator.lifecycle.retry import LONGEST_BACK_OFF_SECONDS

RENAMED = {"pod_logs": "read_logs", "port": "http_port"}
DECIDED_BY_THE_PLACE = {"namespace", "leader_elect", "host", "pod_settings"}
"""Options whose default depends on whether the process runs in a Pod, or that take several values or a JSON object."""


def test_options_have_the_defaults_of_the_settings():
    """An operator that is made in a test behaves as one that is started without options."""
    settings = asdict(OperatorSettings())
    options = {
        RENAMED.get(name, name): option.default
        for name, option in inspect.signature(command).parameters.items()
        if name not in DECIDED_BY_THE_PLACE
    }

    assert options == {name: settings[name] for name in options}
    assert set(settings) - set(options) == {"namespaces", "leader_election", "http_host", "pods"}
    assert settings["pods"] == read_pod_settings(inspect.signature(command).parameters["pod_settings"].default)


def refusal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[object, str]:
    """Return the exit code and the last line of `finetune run`, which finds no cluster if it takes its options."""
    monkeypatch.setattr(sys, "argv", ["finetune", "run", "--kubeconfig", "gone.conf", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code, capsys.readouterr().err.splitlines()[-1]


LIMITS: dict[str, tuple[float, float | None]] = {
    "gpu-publish-seconds": (0, None),
    "retry-back-off-seconds": (0, LONGEST_BACK_OFF_SECONDS),
    "workers": (1, None),
    "resync-seconds": (0.1, 86400),
    "progress-seconds": (0.1, 86400),
    "refused-seconds": (0, 86400),
    "watch-silence-seconds": (0, 86400),
    "port": (0, 65535),
}
"""Option -> the least and the largest number that means something."""


def refused_value(name: str, limit: str) -> tuple[int, str]:
    """Return the end of a process that was given a number beyond a limit."""
    variable = "FINETUNE_" + name.replace("-", "_").upper()
    return 2, f"Error: Invalid value for '--{name}' (env var: '{variable}'): Input should be {limit}"


def test_every_number_has_limits():
    """One that is added needs its row."""
    numbers = {
        name.replace("_", "-")
        for name, option in inspect.signature(command).parameters.items()
        if isinstance(option.default, int | float) and not isinstance(option.default, bool)
    }

    assert numbers == set(LIMITS)


@pytest.mark.parametrize("name", LIMITS)
def test_a_number_without_meaning_is_refused_at_start(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """From the command line and from the environment: it would be taken for another number, or nothing would ever be done."""
    least, most = LIMITS[name]
    below = refused_value(name, f"greater than or equal to {least}")

    assert refusal(monkeypatch, capsys, f"--{name}={least - 1}") == below
    if most is not None:
        above = refused_value(name, f"less than or equal to {most}")
        assert refusal(monkeypatch, capsys, f"--{name}={most + 1}") == above
    monkeypatch.setenv("FINETUNE_" + name.replace("-", "_").upper(), f"{least - 1}")
    assert refusal(monkeypatch, capsys) == below


@pytest.mark.parametrize("value", ["nan", "inf"])
@pytest.mark.parametrize("name", ["resync-seconds", "progress-seconds", "refused-seconds", "watch-silence-seconds"])
def test_a_time_that_is_no_number_is_refused_at_start(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """A pause of nan is none."""
    assert refusal(monkeypatch, capsys, f"--{name}={value}") == refused_value(name, "less than or equal to 86400")


@pytest.mark.parametrize("name", LIMITS)
def test_the_limits_themselves_are_taken(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """0 where it means at once, or none."""
    for limit in (each for each in LIMITS[name] if each is not None):
        assert refusal(monkeypatch, capsys, f"--{name}={limit}") == (
            1,
            "finetune: kubeconfig gone.conf not found: set --kubeconfig or $KUBECONFIG",
        )
