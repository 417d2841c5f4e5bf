"""`finetune version` and `finetune --version`."""

from finetune_operator import __version__


def command() -> None:
    """Print the version."""
    print(__version__)
