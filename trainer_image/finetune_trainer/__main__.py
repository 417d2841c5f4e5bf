"""`python -m finetune_trainer VERB`: the container's command. Each verb imports only what it needs.

preflight   check the job's inputs and report them (no torch)
train       run the workers and report how they ended
export      make further forms of a published result, without a GPU
worker      one training process; started by train
upload      store the checkpoints of one replica; started by worker
keep        store the log and the metrics while they grow; started by train
stored      print a log that was kept; started by `finetune logs`
forget      remove checkpoints, rows and logs of a deleted job; started by `finetune delete`
preview     show rows as the model will see them
look        say what data is: format, columns, rows; run by `finetune init` and `finetune plan`
simulate    show what memory a training step takes, on a machine without a GPU
"""

import sys

USAGE = (
    "usage: python -m finetune_trainer preflight|train|export|worker|upload|keep|stored|forget|preview|look|simulate"
)


def main(arguments: list[str]) -> int:
    """Run one verb; returns the exit code."""
    match arguments:
        case ["preflight"]:
            from finetune_trainer.preflight.__main__ import main as preflight  # noqa: PLC0415 - see the module's docstring

            return preflight()
        case ["train"]:
            from finetune_trainer.process import entry  # noqa: PLC0415

            return entry.main()
        case ["export"]:
            from finetune_trainer.exporting import command as export  # noqa: PLC0415

            return export.main()
        case ["worker"]:
            from finetune_trainer.process import worker  # noqa: PLC0415

            return worker.main()
        case ["upload"]:
            from finetune_trainer.checkpoints import uploader  # noqa: PLC0415

            return uploader.main()
        case ["keep", folder]:
            from finetune_trainer.journal import keeper  # noqa: PLC0415

            return keeper.main(folder)
        case ["stored", uri, folder, name, *secret]:
            from finetune_trainer.journal import stored  # noqa: PLC0415

            return stored.main(uri, folder, name, *secret)
        case ["forget", uri, uid, run_digest, *secret]:
            from finetune_trainer.checkpoints import forget  # noqa: PLC0415

            return forget.main(uri, uid, run_digest, *secret)
        case ["preview"]:
            from finetune_trainer.preflight.preview import main as preview  # noqa: PLC0415

            return preview()
        case ["look", *options]:
            from finetune_trainer.preflight.look import main as look  # noqa: PLC0415

            return look(*options)
        case ["simulate", *rest]:
            from finetune_trainer.simulate import command as simulate  # noqa: PLC0415

            return simulate.main(rest)
        case ["--help" | "-h"]:
            print(f"{USAGE}\n\n{__doc__}")
            return 0
    print(USAGE, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
