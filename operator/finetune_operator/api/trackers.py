"""The part of FineTuneJob.spec that says where the figures of a run are shown. Part of spec."""

from typing import Annotated, Literal

from pydantic import StringConstraints

from finetune_operator.api.cel import ONE_LINE, Checked, Rule
from finetune_operator.api.data import Credentials
from finetune_operator.api.fields import Model, unique
from finetune_operator.api.values import Endpoint

ON_OWN_SERVERS = ("mlflow", "trackio")
SERVICES = {"wandb": "https://api.wandb.ai"}
"""Where figures go that name no server."""


class TrackerSpec(Model):
    """A place that shows the figures of every step while the job trains. Its failures never stop the job."""

    type: Literal["mlflow", "tensorboard", "trackio", "wandb"]
    """Kind of tracker: an mlflow or trackio server, Weights & Biases (wandb), or tensorboard files beside checkpoints and result."""
    uri: Endpoint | None = None
    """URL of the server, such as http://mlflow.ml-tools:5000. Required for mlflow and trackio. Default for wandb: its own service,
    https://api.wandb.ai."""
    project: Annotated[str, StringConstraints(min_length=1, max_length=256), Checked(ONE_LINE)] | None = None
    """Experiment of mlflow, or project of trackio and wandb (also ENTITY/PROJECT). Default: the name of the job."""
    credentials: Credentials | None = None
    """Secret with MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD; with TRACKIO_WRITE_TOKEN; or with
    WANDB_API_KEY. Required for trackio and wandb. Default for mlflow: none are sent."""

    @property
    def server(self) -> str | None:
        """Where the figures are sent; None for files."""
        return self.uri or SERVICES.get(self.type)


TRACKER = (
    Rule(
        cel="self.type == 'wandb' || (self.type in ['mlflow', 'trackio']) == has(self.uri)",
        message="uri is required for types mlflow and trackio, and not used with tensorboard: set it to the URL of the server,"
        " or remove it",
        holds=lambda tracker: tracker.type == "wandb" or (tracker.type in ON_OWN_SERVERS) == (tracker.uri is not None),
        field="uri",
    ),
    Rule(
        cel="self.type != 'tensorboard' || (!has(self.project) && !has(self.credentials))",
        message="type tensorboard writes files: remove project and credentials",
        holds=lambda tracker: tracker.type != "tensorboard" or (tracker.project, tracker.credentials) == (None, None),
        field="project",
    ),
    Rule(
        cel="!(self.type in ['trackio', 'wandb']) || has(self.credentials)",
        message="credentials are required for types trackio and wandb: name a Secret with TRACKIO_WRITE_TOKEN or WANDB_API_KEY",
        holds=lambda tracker: tracker.type not in ("trackio", "wandb") or tracker.credentials is not None,
        field="credentials",
    ),
)


def unique_types(trackers: list[TrackerSpec]) -> list[TrackerSpec]:
    """Return the trackers. Raises pydantic's error when two have the same type."""
    unique([tracker.type for tracker in trackers])
    return trackers
