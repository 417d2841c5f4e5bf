"""What happens to a job that is kept in git: seen by the tests on the real Argo CD and Flux, told by docs/guides/gitops.md.

Each cell has what its test must see and the sentence that readers get; tests/unit/test_gitops_table.py holds the page and the tests to it.
"""

from dataclasses import dataclass
from typing import Final, Literal

Tool = Literal["argo", "flux"]
Fate = Literal["continues", "runs again", "gone", "another"]
"""Of the job that git had: the same object, a new object of that name, none, or a job of another name in its place."""


@dataclass(frozen=True)
class Seen:
    """What a test sees in the end."""

    job: Fate
    tool: str
    """Argo CD: sync and health of the Application. Flux: status and reason of Ready."""


@dataclass(frozen=True)
class Cell:
    """One tool in one situation."""

    seen: Seen
    says: str


@dataclass(frozen=True)
class Row:
    """One situation."""

    what: str
    argo: Cell | None = None
    flux: Cell | None = None


SYNCED, READY = "Synced Healthy", "True ReconciliationSucceeded"

ROWS: Final[dict[str, Row]] = {
    "pruned": Row(
        "the file is removed, pruning is on",
        Cell(Seen("gone", SYNCED), "deletes the job and its Pods, running or not; checkpoints and results stay"),
        Cell(Seen("gone", READY), "the same"),
    ),
    "deleted by hand": Row(
        "somebody deletes a job in the cluster",
        Cell(Seen("runs again", SYNCED), "with self-heal creates it again at once: it runs again"),
        Cell(Seen("runs again", READY), "creates it again at the next interval: it runs again"),
    ),
    "deleted, no self-heal": Row(
        "the same without self-heal",
        Cell(Seen("gone", "OutOfSync Healthy"), "shows OutOfSync, and Healthy all the same; the next sync creates it"),
    ),
    "suspended by hand": Row(
        "somebody sets `spec.suspend`, which git does not name",
        Cell(Seen("continues", "Synced Suspended"), "leaves it: Synced and Suspended. So do the actions"),
        Cell(
            Seen("continues", READY), "takes it back at the next interval if kubectl wrote it; `finetune suspend` stays"
        ),
    ),
    "suspended, git says false": Row(
        "the same where git says `suspend: false`",
        Cell(Seen("continues", "Synced Progressing"), "with self-heal takes it back within seconds"),
        Cell(Seen("continues", READY), "takes it back at the next interval"),
    ),
    "time to live": Row(
        "`ttlSecondsAfterFinished` passes",
        Cell(Seen("continues", SYNCED), "the operator keeps the job and says why in its condition: no loop"),
        Cell(Seen("continues", READY), "the same"),
    ),
    "budget raised": Row(
        "git changes a field that is not frozen",
        Cell(Seen("continues", "Synced Progressing"), "applies it, the run goes on"),
        Cell(Seen("continues", READY), "the same"),
    ),
    "frozen, client-side": Row(
        "git changes a frozen field; client-side apply",
        Cell(
            Seen("continues", "OutOfSync Progressing"),
            "the sync fails with the API server's sentence; OutOfSync until git is put right",
        ),
    ),
    "frozen, replace": Row(
        "the same with `Replace=true`",
        Cell(Seen("continues", "OutOfSync Progressing"), "the same"),
    ),
    "frozen, server-side": Row(
        "the same with server-side apply",
        Cell(
            Seen("continues", "Synced Progressing"),
            "Unknown with the sentence; **from the next refresh on Synced, although git and cluster differ**",
        ),
        Cell(
            Seen("continues", "False ReconciliationFailed"),
            "not ready, with the sentence; nothing of the commit is applied",
        ),
    ),
    "frozen, server-side, client diff": Row(
        "the same with server-side apply and `ServerSideDiff=false`",
        Cell(Seen("continues", "OutOfSync Progressing"), "OutOfSync with the sentence, as it should be"),
    ),
    "frozen, force": Row(
        "the same on a job with `Replace=true,Force=true` (Flux: `force: enabled`)",
        Cell(Seen("runs again", SYNCED), "deletes the job and creates the changed one: it runs"),
        Cell(Seen("runs again", READY), "the same"),
    ),
    "renamed": Row(
        "a running job is renamed, and nothing else",
        Cell(
            Seen("another", SYNCED),
            "deletes the old job and creates the new one, which waits until the old one is gone",
        ),
        Cell(Seen("another", READY), "the same"),
    ),
    "a new run": Row(
        "a finished job gets a new name and a new destination",
        Cell(Seen("another", SYNCED), "the new one runs, the old one is deleted; its result stays"),
        Cell(Seen("another", READY), "the same"),
    ),
    "restored": Row(
        "a cluster is built again from git",
        Cell(
            Seen("continues", SYNCED),
            "each published result is found by preflight: `AlreadyPublished`, Healthy, no GPU",
        ),
        Cell(Seen("continues", READY), "the same"),
    ),
    "application deleted": Row(
        "the Application or Kustomization is deleted (finalizer, `prune: true`)",
        Cell(Seen("gone", ""), "deletes its jobs and their Pods"),
        Cell(Seen("gone", ""), "the same"),
    ),
    "application deleted, no finalizer": Row(
        "the same without finalizer or with `prune: false`",
        Cell(Seen("continues", ""), "the jobs go on"),
        Cell(Seen("continues", ""), "the same"),
    ),
}


def expected(tool: Tool, key: str) -> Seen:
    """Return what a test must see."""
    cell: Cell | None = getattr(ROWS[key], tool)
    assert cell is not None, f"no cell for {tool} in {key}"
    return cell.seen


def markdown() -> str:
    """Return the table of the page."""
    lines = ["| what happens | Argo CD | Flux |", "|---|---|---|"]
    for row in ROWS.values():
        cells = [cell.says if cell else "" for cell in (row.argo, row.flux)]
        lines.append(f"| {row.what} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
