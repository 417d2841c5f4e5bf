"""The volumes of a Pod as real folders, and which mount path stands for which folder. Called by worker."""

from collections.abc import Mapping
from pathlib import Path

from finetune_operator.local.node.fields import field_value
from finetune_operator.local.node.kube import Raw
from finetune_operator.local.node.sources import NotReady, Sources

SUPPORTED = ("configMap", "downwardAPI", "emptyDir", "persistentVolumeClaim", "projected", "secret")
WAITING = "ContainerCreating"


def make_volumes(pod: Raw, sources: Sources, *, folder: Path, claims: Path) -> dict[str, Path]:
    """Make the folder of each volume, with its files. Raises NotReady where something is missing that must be there."""
    made = {}
    for volume in pod["spec"].get("volumes", []):
        if claim := volume.get("persistentVolumeClaim"):
            made[volume["name"]] = _claim_folder(claims / pod["metadata"]["namespace"] / claim["claimName"])
            continue
        place = folder / volume["name"]
        place.mkdir(parents=True, exist_ok=True)
        for path, data in volume_files(volume, pod, sources).items():
            file = place / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        made[volume["name"]] = place
    return made


def mounts(container: Raw, volumes: Mapping[str, Path]) -> dict[str, str]:
    """Return the folder behind each mount path of a container; those of a subPath are made where they are missing."""
    folders = {}
    for mount in container.get("volumeMounts", []):
        place = volumes[mount["name"]]
        if below := mount.get("subPath"):
            place = place / below
            if not place.exists():
                place.mkdir(parents=True)
        folders[mount["mountPath"]] = str(place)
    return folders


def volume_files(volume: Raw, pod: Raw, sources: Sources) -> dict[str, bytes]:
    """Return the files of a volume by path. Raises NotReady as a kubelet would wait."""
    if secret := volume.get("secret"):
        return _keys("secret", secret | {"name": secret["secretName"]}, sources)
    if config := volume.get("configMap"):
        return _keys("configMap", config, sources)
    if downward := volume.get("downwardAPI"):
        return _fields(downward, pod)
    files: dict[str, bytes] = {}
    for source in volume.get("projected", {}).get("sources", []):
        files |= _projected(source, pod, sources)
    return files


def unsupported(pod: Raw) -> str:
    """Return why the process node cannot run a Pod; empty where it can. It refuses rather than do something else."""
    spec = pod["spec"]
    if spec.get("restartPolicy", "Always") != "Never":
        policy = spec.get("restartPolicy", "Always")
        return f"restartPolicy is {policy}: the process node supports only Never"
    for volume in spec.get("volumes", []):
        kind = next((key for key in volume if key != "name"), "")
        if kind not in SUPPORTED:
            return f"volume {volume['name']} has type {kind}: the process node supports only {', '.join(SUPPORTED)}"
    for container in (*spec.get("initContainers", []), *spec["containers"]):
        if "restartPolicy" in container:
            return f"container {container['name']} is a sidecar: the process node does not support sidecar containers"
        if "lifecycle" in container:
            return f"container {container['name']} has lifecycle hooks: the process node does not support them"
        if not container.get("command"):
            return f"container {container['name']} has no command: set it, because the process node does not use images"
        if any("resourceFieldRef" in entry.get("valueFrom", {}) for entry in container.get("env", [])):
            return f"container {container['name']} uses resourceFieldRef: the process node does not support it"
    return ""


def _projected(source: Raw, pod: Raw, sources: Sources) -> dict[str, bytes]:
    if "secret" in source:
        return _keys("secret", source["secret"], sources)
    if "configMap" in source:
        return _keys("configMap", source["configMap"], sources)
    if "downwardAPI" in source:
        return _fields(source["downwardAPI"], pod)
    token = source["serviceAccountToken"]
    return {token["path"]: sources.tokens[token.get("audience", ""), token.get("expirationSeconds", 3600)]}


def _keys(kind: str, reference: Raw, sources: Sources) -> dict[str, bytes]:
    """Return the files of a ConfigMap or Secret: all keys, or the listed ones under their paths."""
    name, optional = reference["name"], reference.get("optional", False)
    data = sources.get(kind, name)
    if data is None:
        if optional:
            return {}
        raise NotReady(WAITING, f'{kind.lower()} "{name}" not found')
    if "items" not in reference:
        return data
    missing = [item["key"] for item in reference["items"] if item["key"] not in data]
    if missing and not optional:
        raise NotReady(WAITING, f"references non-existent {kind.lower()} key: {missing[0]}")
    return {item["path"]: data[item["key"]] for item in reference["items"] if item["key"] in data}


def _fields(reference: Raw, pod: Raw) -> dict[str, bytes]:
    return {
        item["path"]: field_value(pod, item["fieldRef"]["fieldPath"]).encode() for item in reference.get("items", [])
    }


def _claim_folder(folder: Path) -> Path:
    """Return the folder of a claim; the scheduler binds no Pod before its claims are, and claims makes it then."""
    if not folder.is_dir():
        raise NotReady(WAITING, f"the folder of PersistentVolumeClaim {folder.name} does not exist yet")
    return folder
