"""`finetune run`: the operator as a process. Every option can be set by an environment variable, as the chart does."""

import asyncio
import sys
from enum import StrEnum
from typing import Annotated

import typer


class LogLevel(StrEnum):
    """Which log lines are printed: these and graver ones."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


class LogFormat(StrEnum):
    """How a log line looks."""

    TEXT = "text"
    JSON = "json"


DAY = 86_400.0
LONGEST_BACK_OFF = 600
"""As in lifecycle.retry, which help does not load."""


def option(
    name: str, sentence: str, *, any_case: bool = False, least: float | None = None, most: float | None = None
) -> typer.models.OptionInfo:
    """Return an option `--name` that FINETUNE_NAME sets too. A number has limits: outside them (and nan) the process does not start."""
    variable = "FINETUNE_" + name.split("/", 1)[0].removeprefix("--").replace("-", "_").upper()
    info: typer.models.OptionInfo = typer.Option(
        name, envvar=variable, help=sentence, case_sensitive=not any_case, min=least, max=most
    )
    return info


def command(  # noqa: PLR0913  # one parameter per option is how typer works
    *,
    kubeconfig: Annotated[str, typer.Option(help="Kubeconfig file. Default: in a Pod, its ServiceAccount.")] = "",
    context: Annotated[str, typer.Option(help="Context in the kubeconfig.")] = "",
    namespace: Annotated[
        list[str] | None,
        typer.Option(
            "--namespace",
            "-n",
            metavar="NAMESPACE",
            envvar="FINETUNE_NAMESPACE",
            help="Watch only this namespace; repeatable. Default: all.",
        ),
    ] = None,
    trainer_image: Annotated[str, option("--trainer-image", "Image of the trainer Pods.")] = "finetune-trainer:dev",
    preflight_image: Annotated[
        str, option("--preflight-image", "Image of the preflight Pods.")
    ] = "finetune-preflight:dev",
    pod_settings: Annotated[
        str,
        option("--pod-settings", "JSON object with labels, annotations and architectures of all Pods, and preflight."),
    ] = "",
    retry_back_off_seconds: Annotated[
        int,
        option(
            "--retry-back-off-seconds",
            "Pause before the first retry; it doubles with each further one.",
            least=0,
            most=LONGEST_BACK_OFF,
        ),
    ] = 10,
    gpu_publish_seconds: Annotated[
        int,
        option(
            "--gpu-publish-seconds",
            "Longest time that the GPUs of a full fine-tune wait for its upload. A model that takes longer is published by a Pod without "
            "GPUs.",
            least=0,
        ),
    ] = 60,
    workers: Annotated[int, option("--workers", "Number of jobs reconciled in parallel.", least=1)] = 16,
    resync_seconds: Annotated[
        float, option("--resync-seconds", "Time between full comparisons with the API server.", least=0.1, most=DAY)
    ] = 300,
    progress_seconds: Annotated[
        float, option("--progress-seconds", "Minimum time between two reads of a trainer log.", least=0.1, most=DAY)
    ] = 10,
    pod_logs: Annotated[bool, option("--pod-logs/--no-pod-logs", "Read progress from the trainer logs.")] = True,
    leader_elect: Annotated[
        bool | None, option("--leader-elect/--no-leader-elect", "Use leader election. Default: only in a Pod.")
    ] = None,
    lease_namespace: Annotated[str, option("--lease-namespace", "Namespace of the leader election Lease.")] = "default",
    lease_name: Annotated[str, option("--lease-name", "Name of the leader election Lease.")] = "finetune-operator",
    host: Annotated[
        str,
        option("--host", "Address for /healthz, /readyz and /metrics. Default: 0.0.0.0 in a Pod, otherwise 127.0.0.1."),
    ] = "",
    port: Annotated[
        int, option("--port", "Port for /healthz, /readyz and /metrics. 0 turns them off.", least=0, most=65535)
    ] = 0,
    refused_seconds: Annotated[
        float,
        option(
            "--refused-seconds",
            "Exit after the API server has refused the credentials for this long.",
            least=0,
            most=DAY,
        ),
    ] = 30,
    watch_silence_seconds: Annotated[
        float,
        option(
            "--watch-silence-seconds", "/healthz fails if a watch has missed changes for this long.", least=0, most=DAY
        ),
    ] = 120,
    otlp_endpoint: Annotated[
        str,
        option(
            "--otlp-endpoint",
            "OpenTelemetry collector for traces (OTLP over HTTP), such as http://otel:4318. Default: none.",
        ),
    ] = "",
    log_format: Annotated[LogFormat, option("--log-format", "Format of the log lines.")] = LogFormat.TEXT,
    log_level: Annotated[
        LogLevel, option("--log-level", "Minimum level of the log lines.", any_case=True)
    ] = LogLevel.INFO,
) -> None:
    """Run the operator until it receives SIGTERM."""
    from finetune_operator.api.pod_settings import read_pod_settings  # noqa: PLC0415  # help needs none of this
    from finetune_operator.controller.connection import in_cluster  # noqa: PLC0415
    from finetune_operator.controller.logs import configure  # noqa: PLC0415
    from finetune_operator.controller.process import run_operator  # noqa: PLC0415
    from finetune_operator.controller.settings import OperatorSettings  # noqa: PLC0415

    configure(log_level.value, log_format.value)
    settings = OperatorSettings(
        kubeconfig=kubeconfig,
        context=context,
        namespaces=tuple(name for entry in namespace or () for name in entry.split(",") if name),
        trainer_image=trainer_image,
        preflight_image=preflight_image,
        pods=read_pod_settings(pod_settings),
        retry_back_off_seconds=retry_back_off_seconds,
        gpu_publish_seconds=gpu_publish_seconds,
        workers=workers,
        resync_seconds=resync_seconds,
        progress_seconds=progress_seconds,
        read_logs=pod_logs,
        leader_election=in_cluster() if leader_elect is None else leader_elect,
        lease_namespace=lease_namespace,
        lease_name=lease_name,
        http_host=host or ("0.0.0.0" if in_cluster() else "127.0.0.1"),  # noqa: S104  # the kubelet probes the Pod's address
        http_port=port,
        refused_seconds=refused_seconds,
        watch_silence_seconds=watch_silence_seconds,
        otlp_endpoint=otlp_endpoint,
        log_format=log_format.value,
        log_level=log_level.value,
    )
    sys.exit(asyncio.run(run_operator(settings)))
