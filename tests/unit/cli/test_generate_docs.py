"""The generated pages of the reference: one row for everything that exists."""

import pytest
from finetune_operator.api import ending_texts, reason_texts, reasons
from finetune_operator.api.reason_texts import ReasonText
from finetune_operator.cli.app import load
from finetune_operator.cli.generate_docs import METRICS, command_section, doc_pages, metric_row
from finetune_operator.controller.metrics import REGISTRY, REQUESTS

TABLES = {
    reasons.ProgressReason: reason_texts.PROGRESS,
    reasons.WaitingReason: reason_texts.WAITING,
    reasons.AttemptOutcome: ending_texts.ATTEMPT,
    reasons.TerminalReason: ending_texts.TERMINAL,
}
SENTENCES = [text for table in TABLES.values() for entry in table.values() for text in entry]


@pytest.mark.parametrize("enum", TABLES, ids=lambda enum: enum.__name__)
def test_every_reason_has_an_entry(enum: type[reasons.WaitingReason]):
    """What it means, what to do and what the operator does, in the order of the enum."""
    assert list(TABLES[enum]) == list(enum)


def test_entries_are_sentences():
    """Each of them begins with a capital or a name in code, and ends with a full stop."""
    assert len(SENTENCES) == 3 * sum(map(len, TABLES))
    assert [text for text in SENTENCES if not (text[0].isupper() or text[0] == "`") or text[-1] != "."] == []


def test_an_entry_has_three_parts():
    """The columns of the page."""
    assert ReasonText._fields == ("means", "you", "operator")


def test_a_metric_is_named_as_prometheus_names_it():
    """A counter ends with _total, and its labels are listed."""
    assert metric_row(REQUESTS) == (
        "| `finetune_api_requests_total` | counter | `verb`, `resource`, `code` | Requests to the API server. |"
    )


def test_every_metric_is_on_the_page():
    """None of the registry is left out."""
    page = doc_pages()[METRICS]
    names = [metric.name for metric in REGISTRY.collect()]

    assert len(names) > 10
    assert [name for name in names if f"| `{name}" not in page] == []


def test_a_command_shows_its_usage_and_options():
    """An argument that must be given, a switch with both of its names, a default."""
    section, run = ("\n".join(command_section(f"finetune {name}", load(name))) for name in ("plan", "run"))

    assert "```\nfinetune plan [OPTIONS]\n```" in section
    assert "| `--trainer-image` | `finetune-trainer:dev` | Image of the trainer Pods. |" in run
    assert "| `--explain, --no-explain` |  | Also print how the figures are calculated. |" in section
