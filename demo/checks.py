"""What the demo asserts about its result, and how it shows it."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any


def check(status: dict[str, Any], claim: Path, say: Callable[[str], None]) -> list[str]:
    """Show losses, answers, URI and digest; return what is not as it should be."""
    problems = [*losses(status, say), *answers(status, say), *artifact(status, claim, say)]
    if status["phase"] != "Succeeded":
        problems.append(f"phase is {status['phase']}")
    return problems


def losses(status: dict[str, Any], say: Callable[[str], None]) -> list[str]:
    """The tuned model must be better on the same held-out rows."""
    found = status.get("evaluation") or {}
    base, tuned = float(found.get("baseLoss", "nan")), float(found.get("tunedLoss", "nan"))
    say(f"held-out loss   base {base:.3f}   tuned {tuned:.3f}   on {found.get('examples')} rows")
    return [] if tuned < base else [f"the tuned model's loss {tuned} is not below the base model's {base}"]


def answers(status: dict[str, Any], say: Callable[[str], None]) -> list[str]:
    """Both models answer the same prompt, differently."""
    samples = (status.get("evaluation") or {}).get("samples") or []
    for sample in samples:
        say("")
        say(f"prompt   {sample['prompt']}")
        say(f"base     {sample['base']}")
        say(f"tuned    {sample['tuned']}")
    if not samples:
        return ["no sample was generated"]
    return [f"both models answer {s['prompt']!r} alike" for s in samples if s["base"] == s["tuned"]]


def artifact(status: dict[str, Any], claim: Path, say: Callable[[str], None]) -> list[str]:
    """The adapter is where status says, with the digest that status says."""
    artifacts = status.get("artifacts") or []
    if not artifacts:
        return ["nothing was published"]
    uri, digest = artifacts[0]["uri"], artifacts[0]["digest"]
    folder = claim / uri.removeprefix("pvc://demo/")
    say("")
    say(f"adapter  {uri}")
    say(f"digest   {digest}")
    say(f"folder   {folder}")
    found = folder_digest(folder)
    return [] if found == digest else [f"the adapter's digest is {found}, status says {digest}"]


def folder_digest(folder: Path) -> str:
    """Compute an artifact's digest again, as `find * -type f | LC_ALL=C sort | xargs sha256sum | sha256sum` does."""
    files = sorted((path.relative_to(folder).as_posix(), path) for path in folder.rglob("*") if path.is_file())
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {name}\n" for name, path in files]
    return "sha256:" + hashlib.sha256("".join(lines).encode()).hexdigest()
