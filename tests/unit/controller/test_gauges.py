"""What Prometheus is told about all jobs together, and that rules and dashboard ask only for what there is."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from finetune_operator.controller import metrics
from finetune_operator.controller.gauges import count_all
from finetune_operator.controller.stored import Stored, stored
from prometheus_client.metrics import MetricWrapperBase

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
CHART = Path(__file__).parents[3] / "charts/finetune-operator/files"
RUNNING = {"number": 0, "startTime": "2026-01-02T01:00:00Z", "runningTime": "2026-01-02T01:01:00Z"}
WAITING = {"number": 0, "startTime": "2026-01-02T03:02:05Z"}


def a_job(name: str, namespace: str = "team", spent: str = "0.00", budget: str = "", **status: Any) -> Stored:
    meta = {"name": name, "namespace": namespace, "uid": name, "resourceVersion": "1"}
    policy = {"budget": {"maxCostUSD": budget}} if budget else {}
    cost = {"cost": {"costUSD": spent}}
    return stored("FineTuneJob", {"metadata": meta, "spec": {"runPolicy": policy}, "status": cost | status})


def samples(name: str) -> dict[str, float]:
    """Return the samples of a gauge by the value of its label."""
    (family,) = (each for each in metrics.REGISTRY.collect() if each.name == name)
    return {next(iter(each.labels.values())): each.value for each in family.samples}


def test_jobs_are_counted_by_phase_and_the_longest_wait_by_namespace():
    """An attempt waits from its start until its last Pod is scheduled; one that ended waits no more."""
    jobs = [
        a_job("new"),
        a_job("short", phase="Planned", attempts=[WAITING]),
        a_job("long", phase="Planned", attempts=[WAITING | {"startTime": "2026-01-02T02:04:05Z"}]),
        a_job("runs", namespace="other", phase="Training", attempts=[RUNNING]),
        a_job("ended", namespace="other", phase="Failed", attempts=[WAITING | {"outcome": "NotScheduled"}]),
    ]

    count_all(jobs, NOW)

    assert samples("finetune_jobs") == {"Pending": 1, "Planned": 2, "Training": 1, "Failed": 1}
    assert samples("finetune_longest_wait_seconds") == {"team": 3600.0}
    count_all([], NOW)
    assert (samples("finetune_jobs"), samples("finetune_longest_wait_seconds")) == ({}, {})


@pytest.mark.parametrize(
    ("spent", "attempts", "expected"),
    [("89.99", [RUNNING], 0.0), ("90.00", [RUNNING], 1.0), ("100.00", [RUNNING | {"outcome": "Suspended"}], 0.0)],
    ids=["below", "at 90 %", "not in progress"],
)
def test_a_running_job_near_its_budget_is_counted(spent: str, attempts: list[dict[str, Any]], expected: float):
    """Nobody needs to be told of one that is suspended already."""
    count_all([a_job("a", spent=spent, budget="100.00", attempts=attempts)], NOW)

    assert samples("finetune_jobs_near_budget") == {"team": expected}


def test_counters_begin_at_zero():
    """The first stalled attempt of a namespace is an increase from 0; from no series at all it would be none."""
    count_all([a_job("a", namespace="first-seen")], NOW)

    stalled = {"namespace": "first-seen", "outcome": "Stalled"}
    assert metrics.REGISTRY.get_sample_value("finetune_attempts_ended_total", stalled) == 0.0


def expressions() -> list[str]:
    """Return all queries of the alerts and of the dashboard."""
    groups = yaml.safe_load((CHART / "alerts.yaml").read_text())["groups"]
    panels = json.loads((CHART / "dashboard.json").read_text())["panels"]
    return [rule["expr"] for group in groups for rule in group["rules"]] + [
        target["expr"] for panel in panels for target in panel["targets"]
    ]


def test_alerts_and_dashboard_ask_only_for_metrics_and_labels_that_there_are():
    """A metric or a label that is renamed would leave an alert that never fires."""
    labels: dict[str, set[str]] = {}
    collectors = [each for each in vars(metrics).values() if isinstance(each, MetricWrapperBase)]
    for collector in collectors:
        for family in collector.describe():
            known = set(collector._labelnames)  # not told in any other way while there are no samples
            suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(family.type, [""])
            labels |= {family.name + suffix: known | ({"le"} if suffix == "_bucket" else set()) for suffix in suffixes}

    for expression in expressions():
        asked = set(re.findall(r"finetune_\w+", expression))
        assert asked <= labels.keys(), expression
        (metric,) = asked
        by = {label for group in re.findall(r"by \(([^)]*)\)", expression) for label in re.split(r"\s*,\s*", group)}
        matched = set(re.findall(r"[{,]\s*(\w+)\s*[=!]", expression))
        assert by | matched <= labels[metric], expression
    assert len(expressions()) > 20


def test_the_runbook_has_every_alert_with_its_severity():
    """And no other."""
    groups = yaml.safe_load((CHART / "alerts.yaml").read_text())["groups"]
    alerts = {(rule["alert"], rule["labels"]["severity"]) for group in groups for rule in group["rules"]}
    runbook = (CHART.parents[2] / "docs/operating/runbook.md").read_text()

    assert set(re.findall(r"^\| `(FineTune\w+)` \| (\w+) \|", runbook, re.MULTILINE)) == alerts
