"""A server in a process of its own: started, waited for, ended. Called by the servers of object stores."""

import contextlib
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path


@contextlib.contextmanager
def served(
    command: Sequence[str], url: str, log: Path, *, seconds: float = 60, env: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Run a server until the end of the block, which begins when it answers; its words go to a log."""
    with log.open("ab") as words:
        child = subprocess.Popen(command, env=env, stdout=words, stderr=words, start_new_session=True)
    try:
        _await(child, url, log, seconds)
        yield
    finally:
        child.terminate()
        child.wait(timeout=20)


def _await(child: "subprocess.Popen[bytes]", url: str, log: Path, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not _speaks_http(url):
        assert child.poll() is None, f"the server at {url} ended with {child.returncode}: {log.read_text()[-500:]}"
        assert time.monotonic() < deadline, f"the server at {url} does not answer: {log.read_text()[-500:]}"
        time.sleep(0.05)


def _speaks_http(url: str) -> bool:
    try:
        # whose certificate it is, its users look at
        urllib.request.urlopen(url, timeout=2, context=ssl._create_unverified_context()).close()
    except urllib.error.HTTPError as refusal:
        refusal.close()  # 403: it is there and wants a signature
        return True
    except OSError:
        return False
    return True
