"""`make pictures`: terminals as SVG for the README, drawn from what the commands really print.

The plan is made anew. The finished job is the one that the last `make demo` recorded, else the recording beside the picture.
"""

import io
import os
import pty
import re
import shutil
import subprocess
import sys
from datetime import datetime

from finetune_operator.api.status import FineTuneJob
from finetune_operator.cli.get_text import details
from rich.console import Console
from rich.text import Text

from demo.__main__ import RECORD, ROOT

IMAGES = ROOT / "docs" / "images"
RECORDING = IMAGES / "job.json"
PLAN = ("plan", "-f", "examples/02-lora-s3/job.yaml", "--pools", "examples/gpupools")
COLUMNS = 118

FRAME = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: {char_height}px; \
line-height: {line_height}px; }}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" /></clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
"""rich's own frame without its fonts, which it would fetch from elsewhere."""


def main() -> None:
    """Draw both pictures."""
    if RECORD.exists():
        shutil.copyfile(RECORD, RECORDING)
    for name, text in pictures().items():
        (IMAGES / name).write_text(text)
        print(f"wrote docs/images/{name}")


def pictures() -> dict[str, str]:
    """Return the text of each picture."""
    return {"plan.svg": plan_picture(), "job.svg": job_picture()}


def plan_picture() -> str:
    """Return what `finetune plan` prints now about an example."""
    return terminal(f"finetune {' '.join(PLAN)}", on_a_terminal([sys.executable, "-m", "finetune_operator", *PLAN]))


def job_picture() -> str:
    """Return what `finetune get` printed about the recorded job when it had ended."""
    job = FineTuneJob.model_validate_json(RECORDING.read_text())
    ended = datetime.fromisoformat(job.status.completion_time or "")
    return terminal(f"finetune get {job.metadata.name}", details(job, ended))


def on_a_terminal(command: list[str]) -> str:
    """Return what a command prints on a terminal, colours included."""
    reader, writer = pty.openpty()
    environment = os.environ | {"COLUMNS": str(COLUMNS), "TERM": "xterm-256color"}
    environment.pop("NO_COLOR", None)
    with subprocess.Popen(command, stdout=writer, cwd=ROOT, env=environment) as process:
        os.close(writer)
        printed = b"".join(iter(lambda: next_bytes(reader), b""))
        os.close(reader)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} exited with {process.returncode}")
    return printed.decode().replace("\r\n", "\n")


def next_bytes(reader: int) -> bytes:
    """Read from a terminal; empty at its end, which Linux reports as an error."""
    try:
        return os.read(reader, 65536)
    except OSError:
        return b""


def terminal(command: str, printed: str) -> str:
    """Return a terminal with a command and what it printed, as SVG."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text(f"$ {command}", style="bold cyan"))
    console.print(Text.from_ansi(printed.rstrip()))
    svg = console.export_svg(title="", code_format=FRAME, unique_id=re.sub(r"\W+", "-", command)[:24])
    return "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"


if __name__ == "__main__":
    main()
