"""`python -m finetune_trainer preview`: print what the model will see. Takes preflight's configuration."""

import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from finetune_contract import ENV_WORKSPACE, PreflightConfig

from finetune_trainer.errors import ReportedError, UserError
from finetune_trainer.preflight.__main__ import without_torch
from finetune_trainer.storage.secrecy import redacted
from finetune_trainer.told import told

ENV_COLOUR = "FINETUNE_COLOUR"


def main() -> int:
    """Print the preview of a job's data. Nothing is written outside the workspace. Returns the exit code."""
    without_torch()
    config = told(PreflightConfig)
    with tempfile.TemporaryDirectory(dir=os.environ.get(ENV_WORKSPACE)) as folder:
        try:
            print(preview(config, Path(folder), colour=os.environ.get(ENV_COLOUR) == "1"), end="")
        except ReportedError as error:
            print(f"{error.reason}: {redacted(error.message)}", file=sys.stderr)
            return int(error.exit_code)
    return 0


def preview(config: PreflightConfig, workspace: Path, *, colour: bool) -> str:
    """Prepare the rows as preflight does and return the preview."""
    # Imported here because torch must be hidden first.
    from finetune_trainer.data.prepare import prepare  # noqa: PLC0415
    from finetune_trainer.data.request import preflight_request  # noqa: PLC0415
    from finetune_trainer.preflight.model import check_complete, examine_model  # noqa: PLC0415
    from finetune_trainer.preflight.preview_text import preview_text  # noqa: PLC0415
    from finetune_trainer.preflight.template import check_template  # noqa: PLC0415
    from finetune_trainer.preflight.tokens import check_tokens  # noqa: PLC0415

    model = examine_model(config.model, workspace / "model")
    check_template(model.tokenizer, config.chat, config.model.location.uri)
    request = preflight_request(config, model.length_limit)
    prepared = prepare(request, model.tokenizer, workspace, say=_say)
    doubts = (*model.warnings, *check_tokens(prepared.folder, model, config.model.location.uri))
    try:
        check_complete(model, config.model.location.uri)
    except UserError as error:  # the rows can be seen all the same
        doubts += (f"preflight will refuse the model: {error.message}",)
    prepared = replace(prepared, warnings=(*doubts, *prepared.warnings))
    return preview_text(prepared, model.tokenizer, title=config.name, colour=colour)


def _say(how_far: str) -> None:
    print(how_far, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
