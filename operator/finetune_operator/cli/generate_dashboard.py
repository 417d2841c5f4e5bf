"""The Grafana dashboard of the chart, written from a table of panels. Called by generate. Pure."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DASHBOARD = Path("charts/finetune-operator/files/dashboard.json")
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH = 24
"""Columns of Grafana's grid."""

HEIGHT = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One graph: a title, its queries with their legends, and what the axis counts."""

    title: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    """One of Grafana's units."""
    kind: str = "timeseries"


ROWS: tuple[tuple[Panel, ...], ...] = (
    (
        Panel(title="Jobs by phase", queries=(("sum by (phase) (finetune_jobs)", "{{phase}}"),)),
        Panel(
            title="GPUs in use",
            queries=(("sum by (gpu) (rate(finetune_gpu_seconds_total[$__rate_interval]))", "{{gpu}}"),),
        ),
        Panel(
            title="Dollars per hour",
            queries=(("3600 * sum by (namespace) (rate(finetune_cost_usd_total[$__rate_interval]))", "{{namespace}}"),),
            unit="currencyUSD",
        ),
    ),
    (
        Panel(
            title="Longest wait for GPUs",
            queries=(("max by (namespace) (finetune_longest_wait_seconds)", "{{namespace}}"),),
            unit="s",
        ),
        Panel(
            title="Ended jobs by reason, last hour",
            queries=(("sum by (reason) (increase(finetune_jobs_ended_total[1h])) > 0", "{{reason}}"),),
        ),
        Panel(
            title="Ended attempts by outcome, last hour",
            queries=(("sum by (outcome) (increase(finetune_attempts_ended_total[1h])) > 0", "{{outcome}}"),),
        ),
    ),
    (
        Panel(
            title="From creation to running Pods",
            queries=tuple(
                (
                    f"histogram_quantile({share}, sum by (le) (rate(finetune_job_start_latency_seconds_bucket[1h])))",
                    f"{share * 100:.0f} % of the jobs",
                )
                for share in (0.5, 0.95)
            ),
            unit="s",
        ),
        Panel(
            title="Jobs near their budget",
            queries=(("sum by (namespace) (finetune_jobs_near_budget)", "{{namespace}}"),),
        ),
        Panel(title="Operators that lead", queries=(("sum(finetune_leader)", "leaders"),), kind="stat"),
    ),
    (
        Panel(
            title="Reconciliations per second",
            queries=(("sum by (result) (rate(finetune_job_reconcile_total[$__rate_interval]))", "{{result}}"),),
            unit="ops",
        ),
        Panel(title="Jobs waiting to be reconciled", queries=(("finetune_workqueue_depth", "queue"),)),
        Panel(
            title="Requests to the API server",
            queries=(("sum by (code) (rate(finetune_api_requests_total[$__rate_interval]))", "{{code}}"),),
            unit="reqps",
        ),
    ),
    (
        Panel(
            title="Time since the last event of a watch",
            queries=(("time() - max by (kind) (finetune_watch_last_event_timestamp_seconds)", "{{kind}}"),),
            unit="s",
        ),
        Panel(
            title="Changes that a watch missed, last hour",
            queries=(("sum by (kind) (increase(finetune_watch_missed_total[1h]))", "{{kind}}"),),
        ),
        Panel(
            title="Duration of a reconciliation",
            queries=(
                (
                    "histogram_quantile(0.99, sum by (le) "
                    "(rate(finetune_job_reconcile_duration_seconds_bucket[$__rate_interval])))",
                    "99 % of the reconciliations",
                ),
            ),
            unit="s",
        ),
    ),
)


def dashboard() -> str:
    """Return the dashboard as Grafana imports it."""
    placed = [
        panel(
            each, number=3 * row + column, x=column * WIDTH // len(panels), y=row * HEIGHT, width=WIDTH // len(panels)
        )
        for row, panels in enumerate(ROWS)
        for column, each in enumerate(panels)
    ]
    variable = {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"}
    body = {
        "uid": "finetune-operator",
        "title": "finetune-operator",
        "tags": ["finetune"],
        "editable": True,
        "schemaVersion": 41,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "annotations": {"list": []},
        "templating": {"list": [variable]},
        "panels": placed,
    }
    return json.dumps(body, indent=2) + "\n"


def panel(each: Panel, *, number: int, x: int, y: int, width: int) -> dict[str, Any]:
    """Return one panel at its place in the grid."""
    targets = [
        {"refId": chr(ord("A") + index), "expr": query, "legendFormat": legend, "datasource": SOURCE}
        for index, (query, legend) in enumerate(each.queries)
    ]
    return {
        "id": number + 1,
        "type": each.kind,
        "title": each.title,
        "datasource": SOURCE,
        "gridPos": {"x": x, "y": y, "w": width, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": each.unit, "min": 0}, "overrides": []},
        "targets": targets,
    }
