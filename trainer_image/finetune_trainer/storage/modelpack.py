"""What a model is as an OCI artifact: the manifest, its configuration and its layers. Pure. Called by oci.

The format is the CNCF's ModelPack (github.com/modelpack/model-spec, media types application/vnd.cncf.model): one raw layer for each file,
whose annotation says where the file belongs. Tar layers of other tools are read too, those of KitOps' own format among them.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
MODEL_TYPE = "application/vnd.cncf.model.manifest.v1+json"
CONFIG_TYPE = "application/vnd.cncf.model.config.v1+json"
RUN_TYPE = "application/vnd.finetune.run.v1+json"
"""Of the artifact with what belongs to the run: claim, manifest of provenance, record of the evaluation."""

RAW_TYPE = "application/vnd.finetune.run.file.v1.raw"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
EMPTY = b"{}"
"""OCI's own way to say that there is no configuration, or no layer."""

FILEPATH = "org.cncf.model.filepath"
TITLE = "org.opencontainers.image.title"
"""The same for oras, which knows nothing of models."""

KIND = "dev.finetune.kind"
"""Of a manifest: adapter, model, merged or gguf-*."""

TRAINED = ("adapter", "model")
EXPORTED = ("merged", "gguf-f16", "gguf-q8_0", "gguf-q4_k_m")
RUN_SUFFIX = ".finetune"

DOCUMENTS = (".md", ".svg", "license", "notice")
WEIGHT_SUFFIXES = (".safetensors", ".gguf")
LAYER = re.compile(
    r"application/vnd\.(?:cncf\.model|kitops\.modelkit)\.(?P<role>[a-z]+(?:\.config)?)\.v1\.(?P<form>raw|tar)(?:\+(?P<packed>gzip|zstd))?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer of a manifest."""

    media_type: str
    digest: str
    size_bytes: int
    path: str = ""
    """Of the file or folder in it; empty where nothing says."""

    @property
    def role(self) -> str:
        """What it is for: weight, weight.config, doc, dataset, code, model ...; empty for a type of no model."""
        found = LAYER.fullmatch(self.media_type)
        return found["role"] if found else ""

    @property
    def is_raw(self) -> bool:
        """It is the file itself."""
        found = LAYER.fullmatch(self.media_type)
        return self.media_type == RAW_TYPE or (found is not None and found["form"] == "raw")

    @property
    def packed(self) -> str:
        """How it is compressed; empty for a layer that can be read in parts."""
        found = LAYER.fullmatch(self.media_type)
        return (found["packed"] or "") if found else ""

    def described(self) -> dict[str, Any]:
        """Return the descriptor."""
        return {
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": self.size_bytes,
            "annotations": {FILEPATH: self.path, TITLE: self.path},
        }


def tag_of(tag: str, path: str) -> str:
    """Return the tag of a part of a result: its own for what was trained, others for exports and for the run's files."""
    first = path.partition("/")[0]
    if first in TRAINED:
        return tag
    return f"{tag}-{first}" if first in EXPORTED else f"{tag}{RUN_SUFFIX}"


def sha256(content: bytes) -> str:
    """Return the digest of a content, as registries write it."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def layer_type(path: str) -> str:
    """Return the media type of a file of a model."""
    name = path.lower()
    if name.endswith(WEIGHT_SUFFIXES):
        role = "weight"
    elif name.endswith(".py"):
        role = "code"
    else:
        role = "doc" if name.endswith(DOCUMENTS) else "weight.config"
    return f"application/vnd.cncf.model.{role}.v1.raw"


def configuration(name: str, tag: str, layers: Sequence[Layer]) -> bytes:
    """Return the configuration of a model. It holds no time, so that the same files make the same artifact."""
    weights = [layer.path for layer in layers if layer.role == "weight"]
    suffix = weights[0].rpartition(".")[2] if weights else "safetensors"
    described = {
        "descriptor": {"name": name, "version": tag},
        "config": {"architecture": "transformer", "format": suffix},
        "modelfs": {"type": "layers", "diffIds": [layer.digest for layer in layers]},
    }
    return json.dumps(described, indent=2, sort_keys=True).encode()


def model_manifest(kind: str, config: bytes, layers: Sequence[Layer]) -> bytes:
    """Return the manifest of a model."""
    return _manifest(MODEL_TYPE, (CONFIG_TYPE, config), [layer.described() for layer in layers], {KIND: kind})


def run_manifest(layers: Sequence[Layer]) -> bytes:
    """Return the manifest of what belongs to a run."""
    nothing = {"mediaType": EMPTY_TYPE, "digest": sha256(EMPTY), "size": len(EMPTY)}
    return _manifest(RUN_TYPE, (EMPTY_TYPE, EMPTY), [layer.described() for layer in layers] or [nothing], {})


def _manifest(
    kind: str, config: tuple[str, bytes], layers: list[dict[str, Any]], annotations: Mapping[str, str]
) -> bytes:
    media_type, content = config
    described = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": kind,
        "config": {"mediaType": media_type, "digest": sha256(content), "size": len(content)},
        "layers": layers,
        **({"annotations": dict(annotations)} if annotations else {}),
    }
    return json.dumps(described, indent=2).encode()


def layers_of(manifest: Mapping[str, Any]) -> tuple[Layer, ...]:
    """Return the layers of a manifest that hold files. Raises ValueError for what is none."""
    try:
        found = [_layer(one) for one in manifest["layers"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("the manifest has no layers") from error
    return tuple(layer for layer in found if layer.media_type != EMPTY_TYPE)


def of_role(layers: Iterable[Layer], *, dataset: bool) -> tuple[Layer, ...]:
    """Return the layers with the rows of a data set, or all others; all of an artifact that has only one of both."""
    known = tuple(layer for layer in layers if layer.role)
    wanted = tuple(layer for layer in known if (layer.role == "dataset") is dataset)
    return wanted or known


def _layer(described: Mapping[str, Any]) -> Layer:
    annotations = described.get("annotations") or {}
    return Layer(
        media_type=str(described["mediaType"]),
        digest=str(described["digest"]),
        size_bytes=int(described["size"]),
        path=str(annotations.get(FILEPATH) or annotations.get(TITLE) or "").removeprefix("./"),
    )
