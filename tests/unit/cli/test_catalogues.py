"""`finetune models` and `finetune gpus`: whole lines in a pipe, whole figures in a narrow terminal."""

import pytest
from finetune_operator.cli import gpus, models

COMMANDS = {"models": models.command, "gpus": gpus.command}


@pytest.mark.parametrize(
    ("command", "entry", "end"),
    [("models", "meta-llama/Llama-3.1-8B ", "and the published config.json"), ("gpus", "NVIDIA-L40S ", "0.86")],
)
def test_a_pipe_gets_one_line_per_entry(command: str, entry: str, end: str, capsys: pytest.CaptureFixture[str]):
    """grep finds the source beside the name."""
    COMMANDS[command]()
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith(entry)]

    assert len(lines) == 1
    assert end in lines[0]


@pytest.mark.parametrize(("command", "figure"), [("models", "10,485,760"), ("gpus", "183,359")])
def test_a_narrow_terminal_gets_whole_figures(
    command: str, figure: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """A line that wraps can be read; a figure that ends in dots cannot."""
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes the output for a terminal
    monkeypatch.setenv("COLUMNS", "60")
    COMMANDS[command]()
    printed = capsys.readouterr().out

    assert figure in printed
    assert "\u2026" not in printed


def test_a_thousand_million_is_a_billion():
    """Gemma 3 1B has 999.9 million parameters."""
    assert [models.billions(count) for count in (999_885_952, 999_400_000, 8_030_261_248)] == ["1.00B", "999M", "8.03B"]
