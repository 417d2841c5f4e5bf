"""What each kind of tracker reads from its environment, and how it begins and ends. Called by tracking.

What a library would decide by itself is fixed here: it sends figures and settings of the run to the server that the job names, nothing
to anybody else, and it does not wait without a limit.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
from finetune_contract import RunConfig, Tracker
from transformers import TrainerCallback
from transformers.integrations import MLflowCallback, TensorBoardCallback, TrackioCallback, WandbCallback

from finetune_trainer.storage import Role
from finetune_trainer.storage.addresses import credentials

LOGIN = {
    "mlflow": ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"),
    "trackio": ("TRACKIO_WRITE_TOKEN",),
    "wandb": ("WANDB_API_KEY",),
}

FIXED = {
    "mlflow": {
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "false",
        "GIT_PYTHON_REFRESH": "quiet",
    },  # by its own defaults it would try one request for a quarter of an hour
    "wandb": {
        "WANDB_MODE": "online", "WANDB_INIT_TIMEOUT": "45", "WANDB_FINISH_TIMEOUT": "45", "WANDB_FINISH_TIMEOUT_RAISES": "true",
        "WANDB_LOG_MODEL": "false", "WANDB_WATCH": "false", "WANDB_CONSOLE": "off", "WANDB_SILENT": "true", "WANDB_DISABLE_GIT": "true",
        "WANDB_DISABLE_CODE": "true", "WANDB_X_DISABLE_META": "true", "WANDB_X_DISABLE_STATS": "true", "WANDB_X_SAVE_REQUIREMENTS": "false",
        "WANDB_ERROR_REPORTING": "false",
    },  # of the machine nothing is told, and crashes of the library are not reported to its maker
    "trackio": {},
}  # fmt: skip

REACHED_SECONDS = 10.0

CALLBACKS: dict[str, Callable[[], TrainerCallback]] = {
    "mlflow": MLflowCallback, "tensorboard": TensorBoardCallback, "trackio": TrackioCallback, "wandb": WandbCallback,
}  # fmt: skip


def login(tracker: Tracker) -> dict[str, str]:
    """Return what opens the server, and nothing else of its Secret: other keys there, of a bucket for example, would become the
    identity of everything in this process that has no Secret of its own.

    The libraries read their login from the environment. The Secret is mounted in this Pod, so code that runs here can read it
    anyway; processes that were started before do not see it.
    """
    found = credentials(tracker.location, Role.DATASET)
    return {key: value for key, value in found.items() if key in LOGIN[tracker.type]}


def environment(tracker: Tracker, run: RunConfig, *, files: Path, scratch: Path) -> dict[str, str]:
    """Return what the callback and its library read. `files`: where TensorBoard writes; `scratch`: where a library keeps its own."""
    job, uri = f"{run.namespace}/{run.name}", tracker.location.uri
    match tracker.type:
        case "tensorboard":
            return {"TENSORBOARD_LOGGING_DIR": str(files)}
        case "mlflow":
            tags = {"finetune.dev/job-name": job, "finetune.dev/attempt": str(run.attempt)}
            own = {
                "MLFLOW_TRACKING_URI": uri,
                "MLFLOW_EXPERIMENT_NAME": tracker.project,
                "MLFLOW_TAGS": json.dumps(tags),
            }
        case "trackio":
            own = {"TRACKIO_SERVER_URL": uri, "TRACKIO_DIR": str(scratch / "trackio")}
        case _:
            entity, _, project = tracker.project.rpartition("/")
            folders = {
                name: str(scratch / "wandb")
                for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR")
            }
            own = folders | {"WANDB_PROJECT": project, "WANDB_RUN_GROUP": job, "WANDB_TAGS": f"attempt-{run.attempt}"}
            own |= {"WANDB_HOST": job}  # instead of the machine's name
            own |= ({"WANDB_ENTITY": entity} if entity else {}) | ({"WANDB_BASE_URL": uri} if uri else {})
            (scratch / "wandb").mkdir(parents=True, exist_ok=True)
    return FIXED[tracker.type] | login(tracker) | own


def begun(tracker: Tracker, *moment: Any, model: Any) -> TrainerCallback:
    """Start a tracker. Raises what its library raises, or HTTPError where Trackio, which would go on without its server, has none."""
    if tracker.type == "trackio":
        httpx2.get(tracker.location.uri, timeout=REACHED_SECONDS)
    made = CALLBACKS[tracker.type]()
    made.on_train_begin(*moment, model=model)
    return made


def end(kind: str, tracker: TrainerCallback, **moment: Any) -> None:
    """Let a tracker write what is left. Raises what its library raises, or ConnectionError where Trackio kept figures back."""
    tracker.on_train_end(**moment)
    if kind == "wandb":
        tracker._wandb.finish()  # noqa: SLF001 - its callback leaves that to the end of the process
    if kind == "trackio":
        _refuse_kept_back(tracker._trackio.context_vars.current_project.get())  # noqa: SLF001 - it has no other face


def _refuse_kept_back(project: str | None) -> None:
    """Trackio keeps what its server did not take in a file of this Pod, which ends with it."""
    from trackio.sqlite_storage import SQLiteStorage  # noqa: PLC0415 - for its runs only: a second and a half

    if project is not None and SQLiteStorage.has_pending_data(project):
        raise ConnectionError("its server did not take all figures")
