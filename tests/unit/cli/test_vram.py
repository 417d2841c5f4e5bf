"""`finetune vram --scenarios`: every line is answered; the exit status is for scripts that ask for it."""

import json
from pathlib import Path

import pytest
import typer
from finetune_operator.cli.vram import command

DATA = Path(__file__).parents[3] / "operator/finetune_operator/planning/data/readings.jsonl"


@pytest.fixture
def scenarios(tmp_path: Path) -> Path:
    """One line that is good, one that says something unknown, one that is no JSON."""
    good = DATA.read_text().splitlines()[0]
    file = tmp_path / "scenarios.jsonl"
    file.write_text("\n".join([good, json.dumps({**json.loads(good), "id": "odd", "colour": "red"}), "{", ""]))
    return file


def test_bad_lines_are_answers_too(scenarios: Path, capsys: pytest.CaptureFixture[str]):
    """A script that reads the lines finds the error beside the id; the command has done what it was asked for."""
    command(scenarios=str(scenarios))
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    assert [sorted(answer) for answer in answers] == [
        ["allocatedGiB", "cardGiB", "id", "requestGiB", "reservedGiB"], ["error", "id"], ["error", "id"],
    ]  # fmt: skip
    assert [answer["id"] for answer in answers[1:]] == ["odd", "line 3"]


def test_strict_ends_with_1_after_the_last_answer(scenarios: Path, capsys: pytest.CaptureFixture[str]):
    """For CI: one look at the exit status is enough, and nothing is lost."""
    with pytest.raises(typer.Exit) as ended:
        command(scenarios=str(scenarios), strict=True)

    assert (ended.value.exit_code, len(capsys.readouterr().out.splitlines())) == (1, 3)


def test_strict_ends_with_0_where_all_is_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """No exception: nothing was wrong."""
    file = tmp_path / "scenarios.jsonl"
    file.write_text(DATA.read_text().splitlines()[0])
    command(scenarios=str(file), strict=True)

    assert "requestGiB" in capsys.readouterr().out


def test_only_a_line_feed_ends_a_line_and_bad_bytes_spoil_their_own_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Files from other systems: a byte order mark, carriage returns, a separator inside a text, a byte that is not UTF-8."""
    good = json.loads(DATA.read_text().splitlines()[0])
    odd = json.dumps({**good, "id": "odd", "source": "one\u2028two\x85three"}, ensure_ascii=False).encode()
    file = tmp_path / "scenarios.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + json.dumps(good).encode() + b"\r\n\r\n" + odd + b'\r\n{"id": "\xe9"}\r\n')
    command(scenarios=str(file))
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    assert [one["id"] for one in answers] == [good["id"], "odd", "line 4"]
    assert [one.get("error") for one in answers] == [None, None, "not UTF-8 (byte 8): save the file as UTF-8"]
