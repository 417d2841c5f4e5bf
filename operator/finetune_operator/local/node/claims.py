"""PersistentVolumeClaims as folders: CLAIMS/NAMESPACE/CLAIM. Runs in the process node, beside pods.

Each pending claim gets a volume made to its measure and reserved for it, so that the real controller binds the two. The
folder lives as long as the claim, as with a storage class that deletes.
"""

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

from finetune_operator.local.node.kube import Kube, Raw
from finetune_operator.local.node.nodes import OURS
from finetune_operator.local.state import ClusterState

CLAIMS = "/api/v1/persistentvolumeclaims"
VOLUMES = "/api/v1/persistentvolumes"

logger = logging.getLogger("finetune.node")


@dataclass(frozen=True, slots=True)
class Claims:
    """Serves every claim of the cluster."""

    kube: Kube
    state: ClusterState

    async def follow(self) -> None:
        """Follow the claims for ever."""
        async for event, claim in self.kube.follow(CLAIMS):
            if event == "DELETED":
                await self._release(claim)
            elif claim and claim["status"].get("phase") != "Bound" and "deletionTimestamp" not in claim["metadata"]:
                await self._provide(claim)

    async def _provide(self, claim: Raw) -> None:
        folder = claim_folder(self.state, claim)
        folder.mkdir(parents=True, exist_ok=True)
        answer = await self.kube.create(VOLUMES, volume(claim, folder))
        if not answer.ok and answer.status != 409:
            logger.warning("volume of PersistentVolumeClaim %s: %s", claim["metadata"]["name"], answer.message)

    async def _release(self, claim: Raw) -> None:
        """Remove volume and folder of a claim that is gone; another claim of that name starts empty."""
        await self.kube.delete(f"{VOLUMES}/{volume_name(claim)}")
        shutil.rmtree(claim_folder(self.state, claim), ignore_errors=True)


def claim_folder(state: ClusterState, claim: Raw) -> Path:
    """Return the folder behind a claim."""
    metadata = claim["metadata"]
    return state.claims / str(metadata["namespace"]) / str(metadata["name"])


def volume_name(claim: Raw) -> str:
    """Return the name of the volume made for a claim."""
    return f"claim-{claim['metadata']['uid']}"


def volume(claim: Raw, folder: Path) -> Raw:
    """Return a volume that only this claim can have."""
    metadata, spec = claim["metadata"], claim["spec"]
    reference = {"apiVersion": "v1", "kind": "PersistentVolumeClaim"}
    reference |= {name: metadata[name] for name in ("namespace", "name", "uid")}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": volume_name(claim), "labels": {OURS: "true"}},
        "spec": {
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "accessModes": spec["accessModes"],
            "storageClassName": spec.get("storageClassName", ""),
            "volumeMode": spec.get("volumeMode", "Filesystem"),
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": reference,
            "hostPath": {"path": str(folder), "type": "Directory"},
        },
    }
