"""Whether lm-eval is here: it is an extra of the images. Preflight asks before it reads a task, a trainer before it loads a model."""

import importlib.util

from finetune_trainer.errors import UserError

PACKAGE = "lm_eval"


def check_installed() -> None:
    """Raise UserError(InvalidSpec) where the package is missing."""
    if importlib.util.find_spec(PACKAGE) is None:
        raise UserError(
            "InvalidSpec",
            "type lmEval needs lm-eval, which is not in this image: build the images of preflight and trainer with "
            "--build-arg EXTRAS=lm-eval, or, outside a cluster, install finetune-operator[lm-eval]",
        )
