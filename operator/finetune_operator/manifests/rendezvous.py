"""How the processes of an attempt find each other: both families of environment variables. Called by pod."""

import zlib

from finetune_contract.pods import variable

from finetune_operator.api.plan import Plan
from finetune_operator.api.status import FineTuneJob
from finetune_operator.manifests import names
from finetune_operator.manifests.labels import Manifest

FIRST_PORT, PORTS = 20_000, 10_000
"""Below the ephemeral ports of Linux (from 32,768)."""


def master_port(uid: str, attempt: int) -> int:
    """Return the rendezvous port: another one per attempt, so that a dying attempt never meets its successor."""
    return FIRST_PORT + zlib.crc32(f"{uid}/{attempt}".encode()) % PORTS


def master_address(job: str, attempt: int, replicas: int) -> str:
    """Return where replica 0 listens: its name in the headless Service, or this Pod where it is alone."""
    if replicas == 1:
        return "127.0.0.1"
    return f"{names.trainer_pod_name(job, attempt, 0)}.{names.service_name(job, attempt)}"


def rendezvous(job: FineTuneJob, plan: Plan, attempt: int, replica: int) -> list[Manifest]:
    """Return torchrun's environment; none for a single process, which has nobody to meet."""
    processes = plan.replicas * plan.gpus_per_replica
    if processes == 1:
        return []
    address = master_address(job.metadata.name, attempt, plan.replicas)
    port = str(master_port(job.metadata.uid, attempt))
    values = {
        "PET_NNODES": str(plan.replicas),
        "PET_NODE_RANK": str(replica),
        "PET_NPROC_PER_NODE": str(plan.gpus_per_replica),
        "PET_MASTER_ADDR": address,
        "PET_MASTER_PORT": port,
        "MASTER_ADDR": address,
        "MASTER_PORT": port,
        "WORLD_SIZE": str(processes),
        "RANK": str(replica * plan.gpus_per_replica),
    }
    return [variable(name, value) for name, value in values.items()]
