"""How watch draws: a panel or a table in place on a terminal, a line for each change in a pipe or on a dumb terminal. Called by watch."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from finetune_operator.api.status import ReportedJob
from finetune_operator.cli.get_text import listing
from finetune_operator.cli.job_text import ended, line, reason_line
from finetune_operator.cli.jobs import Jobs
from finetune_operator.cli.tables import dumb
from finetune_operator.cli.unwatched import start_words, unwatched_since
from finetune_operator.cli.watch_view import panel
from finetune_operator.cli.watching import follow_all, follow_one

News = tuple[str, int, str, str]


async def watch_one(jobs: Jobs, name: str) -> bool:
    """Follow a job to its end; tell whether it went well."""
    well = False
    with drawing() as draw:
        tell = plain_lines(draw is None)
        async for seen in follow_one(jobs, name):
            now = datetime.now(UTC)
            if draw is not None:
                draw(lambda width, seen=seen, now=now: panel(seen, now, width))  # type: ignore[misc]
            tell(seen.job)
            if unwatched_since(seen.job, now) is not None:
                print(f"finetune: no operator has looked at this job: {start_words(jobs.target)}", file=sys.stderr)
            well = ended(seen.job) is True
    return well


async def watch_all(jobs: Jobs, *, everywhere: bool) -> bool:
    """Follow jobs until all have ended; tell whether none of those that ran meanwhile failed."""
    before: set[str] | None = None
    failed = False
    with drawing() as draw:
        tell = plain_lines(draw is None, named=True)
        async for found in follow_all(jobs, everywhere=everywhere):
            over = {job.metadata.uid for job in found if ended(job) is not None}
            if before is None:
                before = over
            failed = any(ended(job) is False for job in found if job.metadata.uid not in before)
            now = datetime.now(UTC)
            if draw is not None:
                draw(lambda width, found=found, now=now: table(found, now, width, everywhere=everywhere))  # type: ignore[misc]
            for job in found:
                tell(job)
    return not failed


def table(found: Sequence[ReportedJob], now: datetime, width: int, *, everywhere: bool) -> RenderableType:
    """Return the jobs as `finetune get` lists them."""
    return Text("\n".join(listing(found, now, width=width, namespaces=everywhere)), no_wrap=True, overflow="crop")


@contextlib.contextmanager
def drawing() -> Iterator[Callable[[Callable[[int], RenderableType]], None] | None]:
    """Yield a function that draws over what it drew last, at the width that the terminal has then; None where nothing can be drawn over."""
    if not sys.stdout.isatty() or dumb():
        yield None
        return
    console = Console()
    with Live(console=console, auto_refresh=False) as live:
        yield lambda made: live.update(made(console.width), refresh=True)


def plain_lines(printing: bool, *, named: bool = False) -> Callable[[ReportedJob], None]:  # who draws prints nothing
    """Return a function that prints a line when phase, step, evaluation or reason of a job have changed; each reason once."""
    shown: dict[str, News] = {}

    def tell(job: ReportedJob) -> None:
        progress, said, before = job.status.progress, reason_line(job), shown.get(job.metadata.uid)
        step, loss = (progress.step, progress.eval_loss or "") if progress else (0, "")
        news = (str(job.status.phase), step, loss, said)
        if not printing or before == news:
            return
        shown[job.metadata.uid] = news
        words = line(job, with_reason=before is None or before[-1] != said)
        print(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%SZ}  {f'{job.key}  ' if named else ''}{words}", flush=True)

    return tell
