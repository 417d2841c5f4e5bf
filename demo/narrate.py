"""What the demo says: numbered steps, the commands a user would type, and their output."""

import shlex
import subprocess
import time
from collections.abc import Mapping, Sequence

from rich.console import Console


class Narrator:
    """Prints the story. Every command that it runs is shown first."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)
        self.begun = time.monotonic()
        self.steps = 0

    def step(self, title: str) -> None:
        """Begin the next numbered step."""
        self.steps += 1
        elapsed = int(time.monotonic() - self.begun)
        self.console.print(f"\n[bold]{self.steps}. {title}[/bold]  [dim]{elapsed // 60}:{elapsed % 60:02d}[/dim]")

    def say(self, text: str) -> None:
        """Print a line of the story."""
        self.console.print("   " + text, markup=False)

    def command(self, shown: str, about: str = "") -> None:
        """Print a command that the reader can type, with what it does."""
        self.console.print(f"   [cyan]$ {shown}[/cyan]" + (f"   [dim]# {about}[/dim]" if about else ""))

    def run(self, *command: str, shown: str = "", env: Mapping[str, str] | None = None) -> str:
        """Show and run a command; return its output. Raises CalledProcessError when it fails."""
        self.command(shown or shlex.join(command))
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=env)
        self._print(done.stdout)
        if done.returncode:
            self._print(done.stderr)
            done.check_returncode()
        return done.stdout

    def follow(self, command: Sequence[str], *, shown: str, env: Mapping[str, str] | None = None) -> int:
        """Show a command and let it write to the terminal itself; return its exit code."""
        self.command(shown)
        return subprocess.run(command, check=False, env=env).returncode

    def _print(self, text: str) -> None:
        for line in text.rstrip().splitlines():
            self.console.print("   " + line, markup=False)
