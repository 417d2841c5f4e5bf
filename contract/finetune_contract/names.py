"""Names that both halves rely on: exit codes, environment, files at the destination. Part of contract."""

import enum

TERMINATION_MESSAGE_BYTES = 4096
"""A kubelet keeps this much of a container's termination message (kubernetes.io, Pod termination message)."""

PROGRESS_MARK = "progress"


class ExitCode(enum.IntEnum):
    """How a container ended; anything else is 1, and 137 means killed from outside."""

    DONE = 0
    ERROR = 1
    PREEMPTED = 85
    OUT_OF_MEMORY = 86
    USER_ERROR = 87


# Environment that the Pod manifest sets. A value that holds a mount path is rewritten by the process node.
ENV_RUN_CONFIG = "FINETUNE_RUN_CONFIG"  # path of run.json
ENV_WORKSPACE = "FINETUNE_WORKSPACE"  # writable scratch folder: downloads, caches, temporary checkpoints
ENV_TERMINATION_LOG = "FINETUNE_TERMINATION_LOG"  # where the outcome is written
ENV_CLAIMS = "FINETUNE_CLAIMS"  # "CLAIM=/mnt/claims/CLAIM:CLAIM2=/mnt/claims/CLAIM2": PersistentVolumeClaims
ENV_CONFIG_MAPS = "FINETUNE_CONFIG_MAPS"  # "NAME=/mnt/config-maps/NAME:...": one file per key that a location names
ENV_SECRETS = "FINETUNE_SECRETS"  # "SECRET=/mnt/secrets/SECRET:...": one file per documented key
# Environment that only a node of the local cluster sets.
ENV_DEVICE = "FINETUNE_DEVICE"  # "cpu" lets the trainer run without a GPU; otherwise it fails with NoAccelerator
ENV_ALLOW_FILE = "FINETUNE_ALLOW_FILE"  # "1" permits file:// locations: the node shares the user's disk

SECRET_KEYS = (
    "HF_TOKEN",
    "HF_ENDPOINT",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_ENDPOINT_URL",
    "GOOGLE_CREDENTIALS",
    "GOOGLE_STORAGE_ENDPOINT",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_STORAGE_ENDPOINT",
    ".dockerconfigjson",
    "OCI_USERNAME",
    "OCI_PASSWORD",
    "OCI_PLAIN_HTTP",
    "OPENAI_API_KEY",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "TRACKIO_WRITE_TOKEN",
    "WANDB_API_KEY",
)
"""The keys read from a credentials Secret. No other key is ever looked at."""

CLAIM_FILE = "finetune-run.json"
"""At the output destination: which run owns it."""

MANIFEST_FILE = "finetune-manifest.json"
"""At the output destination, written last: what was published, from what, with which digests."""

COMPLETE_MARKER = "COMPLETE"
"""In a checkpoint folder, written last: the checkpoint exists from then on."""

TRAINED = "Trained"
"""Reason of an attempt that has trained its model and left it to be published by an export Pod."""

JOURNAL_FOLDER = "logs"
"""At the checkpoint destination: the logs of Pods and the history of metrics, in numbered parts."""


def log_folder(uid: str, attempt: int | None) -> str:
    """Return where an attempt's Pods keep what they printed, below the checkpoint destination; None: preflight's."""
    return f"{JOURNAL_FOLDER}/{uid}/{'preflight' if attempt is None else f'attempt-{attempt}'}"


def export_log_folder(uid: str) -> str:
    """Return where the export Pods of a job keep what they printed, below the checkpoint destination."""
    return f"{JOURNAL_FOLDER}/{uid}/export"
