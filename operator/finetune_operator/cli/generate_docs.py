"""The generated pages of docs/reference: reasons, metrics and commands. Called by generate. Pure text from the sources."""

from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from prometheus_client.metrics import MetricWrapperBase

from finetune_operator.api import ending_texts, reason_texts
from finetune_operator.api.reason_texts import ReasonText
from finetune_operator.api.reasons import AttemptOutcome
from finetune_operator.cli.app import COMMANDS, EXITS, load
from finetune_operator.controller import metrics
from finetune_operator.lifecycle import ending_table as table
from finetune_operator.lifecycle.retry import UNCOUNTED

REASONS, ENDINGS, METRICS, COMMANDS_PAGE = (
    Path("docs/reference") / name for name in ("reasons.md", "endings.md", "metrics.md", "commands.md")
)

REASONS_HEAD = """# Reasons

Every reason that a FineTuneJob can show in `status.conditions[].reason` or `status.attempts[].outcome`. Reasons are part of the
API: scripts may rely on them. Messages are for people and may change.

`finetune get JOB` prints the conditions with their reasons and messages.
"""

ENDINGS_HEAD = """# How the end of a Pod is read

The operator reads the rows from top to bottom; the first that applies names the [outcome](reasons.md#how-an-attempt-ended) of the
attempt. Status, exit code and termination message are always those of the container `trainer` (or `preflight`): what other containers
of the Pod do is only told where they keep it from starting. On a pool with `capacity: spot`, `Preempted`, `NodeLost` and `Killed`
become `SpotReclaimed` unless somebody else is known to have stopped the Pod.

| sign | outcome | counts towards `maxRetries` |
|---|---|---|"""

METRICS_HEAD = """# Metrics

The operator serves these at `/metrics` on the port that `--port` sets (8080 in the chart). No label grows with the number of jobs.
Prometheus adds `_bucket`, `_sum` and `_count` to the name of a histogram.
"""

COMMANDS_HEAD = f"""# Commands

Every command of `finetune` with its arguments and options. [The command line](../cli.md) explains exit statuses and pipes.

{EXITS}
"""


def doc_pages() -> dict[Path, str]:
    """Return the text of every generated page of the reference but the API's, by its path in the repository."""
    return {
        REASONS: header("api/reason_texts.py and ending_texts.py") + "\n".join([REASONS_HEAD, *reasons()]),
        ENDINGS: header("lifecycle/ending_table.py") + "\n".join([ENDINGS_HEAD, *ending_rows()]) + "\n",
        METRICS: header("controller/metrics.py") + "\n".join([METRICS_HEAD, *metric_rows()]) + "\n",
        COMMANDS_PAGE: header("cli/") + "\n".join([COMMANDS_HEAD, *commands()]),
    }


def header(source: str) -> str:
    """Return the line that says where a page comes from."""
    return f"<!-- generated; edit operator/finetune_operator/{source} and run `make generate` -->\n\n"


def reasons() -> Iterator[str]:
    """One section per enum of reasons, in the order in which a job meets them."""
    yield from reason_section("While nothing is wrong", "reason", reason_texts.PROGRESS)
    yield from reason_section("Why a job waits", "reason", reason_texts.WAITING)
    yield from reason_section("How an attempt ended", "outcome", ending_texts.ATTEMPT)
    yield from reason_section("How a job ended", "reason", ending_texts.TERMINAL)


def reason_section(title: str, column: str, texts: Mapping[Any, ReasonText]) -> Iterator[str]:
    """Yield a table of reasons."""
    yield f"## {title}\n\n| {column} | what it means | what to do | what the operator does |\n|---|---|---|---|"
    for reason, text in texts.items():
        assert isinstance(reason, StrEnum)
        yield f"| `{reason}` | {text.means} | {text.you} | {text.operator} |"
    yield ""


def ending_rows() -> Iterator[str]:
    """Yield the table of endings, in the order in which endings.verdict reads it."""
    succeeded, lacking, full, refused = (
        AttemptOutcome.SUCCEEDED, AttemptOutcome.HOST_OUT_OF_MEMORY, AttemptOutcome.STORAGE_FULL, AttemptOutcome.NODE_REFUSED,
    )  # fmt: skip
    yield ending_row("exit code 0 and a report that says so", succeeded)
    yield ending_row("the container was terminated as `OOMKilled`", lacking)
    own = "and names our container if the node was low on disk or a container is named"
    yield ending_row(f"Pod reason `Evicted`, and the message holds {quoted(table.FULL_DISK)} {own}", full)
    yield "| any other report of the trainer: the reason that it names | that reason | by the reason |"
    for reason, outcome in table.DISRUPTIONS.items():
        yield ending_row(f"Pod condition `DisruptionTarget` with reason `{reason}`", outcome)
    for reason in sorted(table.TAKEN_AWAY):
        yield ending_row(f"the container never ran; Pod reason `{reason}`", table.POD_REASONS[reason])
    yield ending_row("the container never ran; any other Pod reason, or none", refused)
    yield ending_row(f"the container was terminated with {quoted(sorted(table.NEVER_STARTED))}", refused)
    yield ending_row(f"the container's last words hold `{table.WRONG_PLATFORM}`", refused)
    for reason, outcome in table.POD_REASONS.items():
        yield ending_row(f"Pod reason `{reason}`", outcome)
    lost = AttemptOutcome.NODE_LOST
    yield ending_row(f"the container was terminated with {quoted(sorted(table.LOST_CONTAINERS))}", lost)
    for code, outcome in table.EXIT_CODES.items():
        yield ending_row(f"exit code {int(code)}", outcome)
    yield ending_row("anything else", AttemptOutcome.TRAINER_ERROR)


def ending_row(sign: str, outcome: AttemptOutcome) -> str:
    """Return a row of the table of endings."""
    counts = "no" if outcome in table.CLUSTERS_FAULTS | UNCOUNTED else "yes, unless it left a newer checkpoint"
    return f"| {sign} | `{outcome}` | {counts} |"


def quoted(words: Iterable[str]) -> str:
    """Return words as code, joined with `or`."""
    return " or ".join(f"`{word}`" for word in words)


def metric_rows() -> Iterator[str]:
    """Yield the table of metrics."""
    yield "| metric | type | labels | meaning |\n|---|---|---|---|"
    for collector in vars(metrics).values():
        if isinstance(collector, MetricWrapperBase):
            yield metric_row(collector)


def metric_row(collector: MetricWrapperBase) -> str:
    """Return a metric as Prometheus shows it."""
    (described,) = collector.describe()
    name = f"{described.name}_total" if described.type == "counter" else described.name
    labels = ", ".join(f"`{label}`" for label in collector._labelnames)  # noqa: SLF001  # the client has no public name for it
    return f"| `{name}` | {described.type} | {labels} | {described.documentation} |"


def commands() -> Iterator[str]:
    """Yield a section per command, and one per command of a group."""
    for name in COMMANDS:
        loaded = load(name)
        children: Mapping[str, Any] = getattr(loaded, "commands", {})
        if not children:
            yield from command_section(f"finetune {name}", loaded)
        for child in children:
            yield from command_section(f"finetune {name} {child}", children[child])


def command_section(path: str, command: Any) -> Iterator[str]:  # typer keeps the type of its commands private
    """Yield what a command does, how it is called, and its parameters."""
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    usage = " ".join([path, "[OPTIONS]", *(usage_of(each) for each in arguments)])
    yield f"## {path}\n\n{command.help}\n\n```\n{usage}\n```\n"
    yield "| option | default | meaning |\n|---|---|---|"
    yield from parameter_rows(command.params)
    yield ""


def usage_of(argument: Any) -> str:
    """Return an argument as the usage line shows it."""
    name = argument.name.upper() + ("..." if argument.nargs != 1 else "")
    return name if argument.required else f"[{name}]"


def parameter_rows(parameters: Iterable[Any]) -> Iterator[str]:
    """Yield a row per argument and option."""
    for each in parameters:
        names = (
            each.name.upper() if each.param_type_name == "argument" else ", ".join([*each.opts, *each.secondary_opts])
        )
        chosen = each.opts[0] if each.default is True else each.default
        default = "" if chosen in (None, "", False, ()) or callable(chosen) else f"`{chosen}`"
        meaning = (each.help or "").replace("|", "\\|")
        yield f"| `{names}` | {'required' if each.required else default} | {meaning} |"
    yield "| `--help` | | Show the options and exit. |"
