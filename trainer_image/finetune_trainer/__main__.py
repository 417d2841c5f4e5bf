"""`python -m finetune_trainer VERB`: the container's command. Each verb imports only what it needs.

preflight   check the job's inputs and report them (no torch)
train       run the workers and report how they ended
export      make further forms of a published result, without a GPU
fetch       bring a published folder here and check its digest
chat        ask a published result in the terminal; started by `finetune chat`
serve       serve a GGUF with llama.cpp; started by `finetune serve`
worker      one training process; started by train
upload      store the checkpoints of one replica; started by worker
keep        store the log and the metrics while they grow; started by train
stored      print a log that was kept; started by `finetune logs`
preview     show rows as the model will see them
simulate    show what memory a training step takes, on a machine without a GPU
"""

import sys
from importlib import import_module

VERBS: dict[str, tuple[str, int, int]] = {
    "preflight": ("preflight.__main__", 0, 0),
    "train": ("process.entry", 0, 0),
    "export": ("exporting.command", 0, 0),
    "fetch": ("serving.fetch", 2, 4),
    "chat": ("serving.chat", 1, 1),
    "serve": ("serving.llama_cpp", 3, 3),
    "worker": ("process.worker", 0, 0),
    "upload": ("checkpoints.uploader", 0, 0),
    "keep": ("journal.keeper", 1, 1),
    "stored": ("journal.stored", 3, 4),
    "preview": ("preflight.preview", 0, 0),
    "simulate": ("simulate.command", 0, 99),
}
"""Verb -> the module whose `main` does it, and how many words it takes at least and at most."""

USAGE = f"usage: python -m finetune_trainer {'|'.join(VERBS)}"


def main(arguments: list[str]) -> int:
    """Run one verb; returns the exit code."""
    verb, words = arguments[0] if arguments else "", arguments[1:]
    if verb in ("--help", "-h"):
        print(f"{USAGE}\n\n{__doc__}")
        return 0
    module, least, most = VERBS.get(verb, ("", 1, 0))
    if not least <= len(words) <= most:
        print(USAGE, file=sys.stderr)
        return 2
    run = import_module(f"finetune_trainer.{module}").main
    return int(run(words) if verb == "simulate" else run(*words))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
