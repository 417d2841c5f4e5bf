"""Ports of local servers: what is chosen by several processes at once."""

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from finetune_operator.local import ports


@pytest.fixture
def few_ports(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A range so small that two choices that do not know of each other are almost surely equal somewhere."""
    monkeypatch.setattr(ports, "PORT_RANGE", range(19000, 20000))
    monkeypatch.setattr(ports, "HANDED_OUT", tmp_path / "ports.json")


def chosen(count: int) -> list[int]:
    """Choose ports and bind none of them."""
    return [ports.free_port(set()) for _ in range(count)]


def test_processes_that_choose_at_once_never_choose_the_same_port(few_ports: None) -> None:
    """Four processes choose 60 ports each; nobody binds one; all 240 differ."""
    with ProcessPoolExecutor(4) as processes:  # forked: they share the small range and the file
        answers = [port for of_one in processes.map(chosen, [60] * 4) for port in of_one]
    assert len(set(answers)) == len(answers) == 240


def test_a_choice_is_forgotten_after_some_minutes(few_ports: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers that were never started do not use up the range: a port is given again when its choice is old."""
    first = ports.free_port(set())
    others = set(ports.PORT_RANGE) - {first}
    monkeypatch.setattr(ports, "KEPT_SECONDS", 0)
    assert ports.free_port(others) == first
