"""The export Pod: no GPU, with torch. It makes further forms of a published result, or publishes it first. Called by lifecycle."""

from dataclasses import replace

import finetune_contract as contract
from finetune_contract import run_file
from finetune_contract.pods import container_security, variable

from finetune_operator.api.pod_settings import PodSettings
from finetune_operator.api.published import ExportStatus
from finetune_operator.api.spec import ExportForm
from finetune_operator.api.status import FineTuneJob, FineTuneJobStatus
from finetune_operator.manifests import names, pool_pod, volumes
from finetune_operator.manifests.labels import Manifest, metadata
from finetune_operator.manifests.merging import merge_config
from finetune_operator.manifests.nodes import SILENT_NODE, node_affinity, toleration
from finetune_operator.manifests.pod import DO_NOT_MOVE
from finetune_operator.manifests.preflight import GRACE_SECONDS, preferences
from finetune_operator.manifests.run_config import checkpoint_location, model, output_location
from finetune_operator.manifests.security import isolated
from finetune_operator.manifests.serving_facts import serving_facts
from finetune_operator.planning.defaults import checkpoint_of

DEFAULTS = PodSettings()


def export_config(
    job: FineTuneJob, status: FineTuneJobStatus, export: ExportStatus, exports: tuple[ExportForm, ...]
) -> contract.ExportConfig:
    """Return what the Pod is told."""
    spec, found = job.spec, status.preflight
    assert found is not None
    return contract.ExportConfig(
        namespace=job.metadata.namespace,
        name=job.metadata.name,
        uid=job.metadata.uid,
        number=export.number,
        run_digest=status.run_digest,
        model=replace(model(spec.model), revision=found.model_revision),
        output=output_location(spec.output),
        checkpoint=checkpoint_location(checkpoint_of(spec.checkpoint, spec.output)),
        exports=exports,
        serving=serving_facts(status),
        handed_over_by=handed_over_by(status),
        merge=merge_config(job, status, export) if job.spec.merge_of is not None and not status.artifacts else None,
    )


def handed_over_by(status: FineTuneJobStatus) -> int | None:
    """Return the attempt that left a model which is not published yet; None where there is none."""
    last = status.attempts[-1] if status.attempts else None
    return last.number if last is not None and last.handed_over and not status.artifacts else None


def export_pod(
    job: FineTuneJob,
    status: FineTuneJobStatus,
    export: ExportStatus,
    exports: tuple[ExportForm, ...],
    settings: PodSettings = DEFAULTS,
) -> Manifest:
    """Return the Pod that makes the forms that are not published yet, on a node as preflight's."""
    config, own = export_config(job, status, export, exports), settings.preflight
    needed, everywhere = volumes.storage(config), settings.elsewhere
    own_metadata = status.resolved.pod_metadata if status.resolved is not None else job.spec.pod_metadata
    ours = {names.ROLE_LABEL: "export", names.COMPONENT_LABEL: "export", names.ATTEMPT_LABEL: str(export.number)}
    labels = settings.labels | pool_pod.labels(own_metadata) | ours
    annotations = DO_NOT_MOVE | settings.annotations | pool_pod.annotations(own_metadata)
    amounts = {
        "cpu": str(export.cpus),
        "memory": f"{export.memory_gib}Gi",
        "ephemeral-storage": f"{export.ephemeral_gib}Gi",
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata(job, names.export_pod_name(job.metadata.name, export.number), labels)
        | {"annotations": annotations | {names.RUN_ANNOTATION: run_file.write(config)}},
        "spec": isolated(job.spec.service_account_name)
        | pool_pod.pod_fields(everywhere)
        | {
            "terminationGracePeriodSeconds": GRACE_SECONDS,
            "affinity": node_affinity(settings.architectures, *preferences(tuple(status.refused_nodes))),
            "tolerations": [*map(toleration, own.tolerations), *SILENT_NODE],
            **({"nodeSelector": dict(own.node_selector)} if own.node_selector else {}),
            "containers": [
                {
                    "name": names.EXPORT_CONTAINER,
                    "image": export.image,
                    "command": ["python"],
                    "args": ["-m", "finetune_trainer", "export"],
                    "env": [
                        *pool_pod.environment(everywhere),
                        *volumes.environment(needed),
                        variable("OMP_NUM_THREADS", str(export.cpus)),
                    ],
                    "resources": {"requests": amounts, "limits": dict(amounts)},
                    "volumeMounts": [*volumes.mounts(needed), *pool_pod.mounts(everywhere)],
                    "terminationMessagePath": volumes.TERMINATION_LOG,
                    "terminationMessagePolicy": "FallbackToLogsOnError",
                    "securityContext": container_security(),
                }
            ],
            "volumes": [
                *volumes.volumes(needed, workspace_gib=export.ephemeral_gib),
                *pool_pod.volumes(everywhere),
            ],
        },
    }


def needs(export: ExportStatus, settings: PodSettings) -> str:
    """Say which node would take the Pod."""
    labels = ", ".join(f"{key}={value}" for key, value in settings.preflight.node_selector.items())
    kind = f"a node labelled {labels}" if labels else "a node"
    return f"{export.cpus} CPUs, {export.memory_gib} GiB of memory and {export.ephemeral_gib} GiB of local disk on {kind}; no GPU"
