"""`finetune generate`: write the CRDs, the chart's copies and the API reference from the models, or check them."""

from pathlib import Path
from typing import Annotated

import typer

from finetune_operator.errors import FinetuneError


class OutOfDate(FinetuneError):
    """Generated files differ from what the models say."""


def command(
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit with 1 if a file is out of date.")
    ] = False,
    directory: Annotated[Path, typer.Option(help="Root of the repository.")] = Path(),
) -> None:
    """Generate crds/, their copies in the chart, the chart's schema and README, docs/api.md and docs/reference."""
    from finetune_operator.cli.generate_chart import chart_files  # noqa: PLC0415  # help needs none of this
    from finetune_operator.cli.generate_crds import files  # noqa: PLC0415
    from finetune_operator.cli.generate_docs import doc_pages  # noqa: PLC0415
    from finetune_operator.cli.generate_references import files as references  # noqa: PLC0415

    generated = files() | references() | doc_pages() | chart_files(directory)
    wanted = {directory / path: text for path, text in generated.items()}
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    if check and stale:
        raise OutOfDate(f"out of date: {', '.join(map(str, stale))}; run `make generate`")
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(wanted[path])
        print(f"wrote {path}")
