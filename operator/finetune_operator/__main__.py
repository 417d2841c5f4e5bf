"""`python -m finetune_operator` is `finetune`."""

from finetune_operator.cli import main

main()
