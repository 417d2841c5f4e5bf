"""What a plan takes from a cluster. Pure; read by plan_cluster."""

from dataclasses import dataclass

from finetune_operator.api.policies import FineTunePolicy
from finetune_operator.api.pools import GPUPool
from finetune_operator.api.preflight import PreflightStatus
from finetune_operator.cli.manifest_file import JobManifest
from finetune_operator.manifests.digests import examined_digest
from finetune_operator.planning.quota import UNLIMITED, NamespaceLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterFacts:
    """What was read."""

    pools: tuple[GPUPool, ...] = ()
    preflight: tuple[str, PreflightStatus] | None = None
    """Whose it is, and its findings."""
    limits: NamespaceLimits = UNLIMITED
    """The quotas of the job's namespace."""
    policy: FineTunePolicy | None = None
    """The policy of the job's namespace."""
    title: str = ""
    """What a message calls the cluster."""
    namespace: str = ""
    """Where the job would be created."""
    unread: tuple[str, ...] = ()
    """What of the namespace may not be read, by kind."""
    remark: str = ""
    """Why the pools could not be read."""


def pinned_preflight(
    job: JobManifest, digest: str, found: PreflightStatus | None
) -> tuple[str, PreflightStatus] | None:
    """Return the findings of a preflight, if the part of the spec that they rest on (`digest`) is that of the file."""
    if found is None or digest != examined_digest(job.spec):
        return None
    return f"the preflight of {job.namespace}/{job.name}", found
