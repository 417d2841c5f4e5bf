"""`python -m finetune_trainer VERB`: the container's command. Each verb imports only what it needs.

preflight   check the job's inputs and report them (no torch)
train       run the workers and report how they ended
export      make further forms of a published result, without a GPU
combine     make one adapter of several; started by `finetune merge`
fetch       bring a published folder here and check its digest
chat        ask a published result in the terminal; started by `finetune chat`
serve       serve a GGUF with llama.cpp; started by `finetune serve`
worker      one training process; started by train
upload      store the checkpoints of one replica; started by worker
keep        store the log and the metrics while they grow; started by train
stored      print a log that was kept; started by `finetune logs`
forget      remove checkpoints, rows and logs of a deleted job; started by `finetune delete`
preview     show rows as the model will see them
look        say what data is: format, columns, rows; run by `finetune init` and `finetune plan`
simulate    show what memory a training step takes, on a machine without a GPU
"""

import inspect
import sys
from importlib import import_module

VERBS = {
    "preflight": "preflight.__main__",
    "train": "process.entry",
    "export": "exporting.command",
    "fetch": "publishing.fetch",
    "combine": "combining.combine",
    "chat": "serving.chat",
    "serve": "serving.llama_cpp",
    "worker": "process.worker",
    "upload": "checkpoints.uploader",
    "keep": "journal.keeper",
    "stored": "journal.stored",
    "forget": "checkpoints.forget",
    "preview": "preflight.preview",
    "look": "preflight.look",
    "simulate": "simulate.command",
}
"""The module whose `main` takes the rest of the arguments."""

USAGE = f"usage: python -m finetune_trainer {'|'.join(VERBS)}"


def main(arguments: list[str]) -> int:
    """Run one verb; returns the exit code."""
    verb, *rest = arguments or [""]
    if verb in ("--help", "-h"):
        print(f"{USAGE}\n\n{__doc__}")
        return 0
    if verb not in VERBS:
        return misused(USAGE)
    run = import_module(f"finetune_trainer.{VERBS[verb]}").main
    try:
        inspect.signature(run).bind(*rest)
    except TypeError as error:
        return misused(f"{verb}: {error}")
    code: int = run(*rest)
    return code


def misused(words: str) -> int:
    """Say how it is used; returns the exit code for that."""
    print(words, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
