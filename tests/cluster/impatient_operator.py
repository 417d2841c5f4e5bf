"""The operator, which reads Events after a second and not after minutes: `python -m tests.cluster.impatient_operator run ...`."""

from finetune_operator.cli import main
from finetune_operator.controller import warnings

warnings.PATIENCE_SECONDS = 1
warnings.AGAIN_SECONDS = 1.0

main()
