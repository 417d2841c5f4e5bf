"""The part of FineTuneJob.spec that says where the figures of a run are shown. Part of spec."""

from typing import Annotated, Literal

from pydantic import StringConstraints

from finetune_operator.api.cel import ONE_LINE, Checked, Rule
from finetune_operator.api.data import Credentials
from finetune_operator.api.fields import Model, unique
from finetune_operator.api.values import Endpoint


class TrackerSpec(Model):
    """A place that shows the figures of every step while the job trains. Its failures never stop the job."""

    type: Literal["mlflow", "tensorboard"]
    """Kind of tracker: an mlflow server, or tensorboard files beside the checkpoints and the result."""
    uri: Endpoint | None = None
    """URL of an mlflow server, such as http://mlflow.ml-tools:5000."""
    project: Annotated[str, StringConstraints(min_length=1, max_length=256), Checked(ONE_LINE)] | None = None
    """Experiment on an mlflow server. Default: the name of the job."""
    credentials: Credentials | None = None
    """Secret with MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD. Default: none are sent."""


TRACKER = (
    Rule(
        cel="(self.type == 'mlflow') == has(self.uri)",
        message="uri is required for type mlflow, and used with it only: set it to the URL of the server, or remove it",
        holds=lambda tracker: (tracker.type == "mlflow") == (tracker.uri is not None),
        field="uri",
    ),
    Rule(
        cel="self.type == 'mlflow' || (!has(self.project) && !has(self.credentials))",
        message="type tensorboard writes files: remove project and credentials",
        holds=lambda tracker: tracker.type == "mlflow" or (tracker.project, tracker.credentials) == (None, None),
        field="project",
    ),
)


def unique_types(trackers: list[TrackerSpec]) -> list[TrackerSpec]:
    """Return the trackers. Raises pydantic's error when two have the same type."""
    unique([tracker.type for tracker in trackers])
    return trackers
