"""A result in an OCI registry. Called by opening for output.destination.

`oci://HOST/REPOSITORY:TAG` is the adapter or model itself, as any tool for ModelPack finds it. Exports of it have tags of their own
(`TAG-merged`), and what belongs to the run lies at `TAG.finetune`: the claim, the record of the evaluation and, written last, the
manifest of provenance. A tag appears when all of its blobs are there and were read back.
"""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from finetune_trainer.errors import UserError
from finetune_trainer.storage.addresses import Address
from finetune_trainer.storage.artifact import PARALLEL_TRANSFERS, Entry, bring, entries_of, read_artifact
from finetune_trainer.storage.formats import ADAPTER_CONFIG
from finetune_trainer.storage.modelpack import (
    EMPTY,
    EXPORTED,
    KIND,
    RAW_TYPE,
    TRAINED,
    Layer,
    configuration,
    layer_type,
    model_manifest,
    run_manifest,
    tag_of,
)
from finetune_trainer.storage.oci import RegistryPlace
from finetune_trainer.storage.store import Role, StoredFile, not_found
from finetune_trainer.storage.transfer import alone


class OciResult(RegistryPlace):
    """A place for one result: one artifact per form, and one for the run."""

    revision = ""

    def __init__(self, address: Address, role: Role, keys: dict[str, str]) -> None:
        super().__init__(address, role, keys)
        if self._reference.startswith("sha256:"):
            raise UserError("InvalidSpec", f"{self.uri}: a result needs a tag, such as oci://HOST/REPOSITORY:TAG")
        self._pushed: dict[str, str] = {}
        """Digest of each form that this process has sent."""

    def address_of(self, path: str) -> str:
        """Return where others find a form that was uploaded: by its digest, which no later push can change."""
        digest = self._pushed.get(path)
        return f"oci://{self._host}/{self._repository}" + (f"@{digest}" if digest else f":{self._tag(path)}")

    def files(self, under: str = "") -> tuple[StoredFile, ...]:
        """List the files of a form, of the run, or of all."""
        return tuple(
            entry.stored for path, entry in self._entries(under).items() if not under or path.startswith(f"{under}/")
        )

    def fetch(self, into: Path, paths: Sequence[str] | None = None) -> Path:
        """Download the files that are not there yet."""
        wanted = [entry for path, entry in self._entries().items() if paths is None or path in paths]
        if not wanted:
            raise not_found(self.role, self.uri)
        with alone(into), self._wording():
            bring(self._registry, wanted, into)
        return into

    def write_text(self, path: str, text: str) -> None:
        """Write a file of the run."""
        with self._wording():
            self._write_run({path: text.encode()})

    def create_text(self, path: str, text: str) -> bool:
        """Write a file of the run unless there is one. Registries know no condition: it is read back, and the last one has it."""
        with self._wording():
            if path in self._run_files():
                return False
            self._write_run({path: text.encode()})
        return self.read_text(path) == text

    def replace_text(self, path: str, old: str, new: str) -> bool:
        """Write a file of the run if it still holds `old`, as above."""
        if self.read_text(path) != old:
            return False
        self.write_text(path, new)
        return self.read_text(path) == new

    def upload(self, folder: Path, path: str = "") -> None:
        """Send a form: blobs first, each read back, the manifest last. Anything else goes to the run."""
        path = path or ("adapter" if (folder / ADAPTER_CONFIG).is_file() else "model")
        with self._wording():
            if path in (*TRAINED, *EXPORTED):
                self._pushed[path] = self._push(folder, path)
                return
            files = sorted(file for file in folder.rglob("*") if file.is_file())
            self._write_run({f"{path}/{file.relative_to(folder).as_posix()}": file.read_bytes() for file in files})

    def exists(self, path: str) -> bool:
        """Tell whether there is a file or folder. Whatever is at the tag and is none of ours counts as a result, too."""
        if path in (*TRAINED, *EXPORTED):
            with self._wording():
                found = read_artifact(self._registry, self._tag(path), self.uri)
            return found is not None and found.manifest.get("annotations", {}).get(KIND, path) == path
        if any(f"{one}/".startswith(f"{path}/") for one in self._entries(path)):
            return True
        return any(one.partition("/")[2] == path for one in self._entries(TRAINED[0]))

    def delete(self, path: str) -> None:
        """Remove a form, or files of the run."""
        with self._wording():
            if path in (*TRAINED, *EXPORTED):
                found = read_artifact(self._registry, self._tag(path), self.uri)
                if found is not None:
                    self._registry.delete_manifest(found.digest)
                return
            left = {name: layer for name, layer in self._run_files().items() if not f"{name}/".startswith(f"{path}/")}
            self._push_run(left)

    def _tag(self, path: str) -> str:
        """Return the tag that a path belongs to."""
        return tag_of(self._reference, path)

    def _entry(self, path: str) -> Entry | None:
        return self._entries(path).get(path)

    def _entries(self, under: str = "") -> dict[str, Entry]:
        """Return what is below a path, or everything, by paths as in a folder of a bucket."""
        kinds = [under.partition("/")[0]] if under else ["", TRAINED[0], *EXPORTED]
        with self._wording():
            return {path: entry for kind in kinds for path, entry in self._of(kind).items()}

    def _of(self, kind: str) -> dict[str, Entry]:
        found = read_artifact(self._registry, self._tag(kind), self.uri)
        if found is None:
            return {}
        ours = [layer for layer in found.layers if layer.role or layer.media_type == RAW_TYPE]
        entries = entries_of(self._registry, ours, self.uri)
        if kind not in (*TRAINED, *EXPORTED):
            return {entry.path: entry for entry in entries}
        kind = found.manifest.get("annotations", {}).get(KIND, kind)
        return {f"{kind}/{entry.path}": replace(entry, path=f"{kind}/{entry.path}") for entry in entries}

    def _run_files(self) -> dict[str, Layer]:
        found = read_artifact(self._registry, self._tag(""), self.uri)
        return {} if found is None else {layer.path: layer for layer in found.layers}

    def _write_run(self, contents: dict[str, bytes]) -> None:
        layers = self._run_files()
        for path, content in contents.items():
            digest = self._registry.put_content(content)
            layers[path] = Layer(media_type=RAW_TYPE, digest=digest, size_bytes=len(content), path=path)
        self._push_run(layers)

    def _push_run(self, layers: dict[str, Layer]) -> None:
        self._registry.put_content(EMPTY)
        self._registry.put_manifest(self._tag(""), run_manifest([layers[path] for path in sorted(layers)]))

    def _push(self, folder: Path, kind: str) -> str:
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        with ThreadPoolExecutor(PARALLEL_TRANSFERS) as pool:
            layers = list(pool.map(lambda file: self._sent(file, file.relative_to(folder).as_posix()), files))
        name = self._repository.rpartition("/")[2]
        config = configuration(name, self._tag(kind), layers)
        self._registry.put_content(config)
        return self._registry.put_manifest(self._tag(kind), model_manifest(kind, config, layers))

    def _sent(self, file: Path, path: str) -> Layer:
        """Send a file and read it back."""
        with file.open("rb") as source:
            digest = f"sha256:{hashlib.file_digest(source, 'sha256').hexdigest()}"
        size = file.stat().st_size
        self._registry.put_file(digest, file)
        self._registry.check_blob(digest, size)
        return Layer(media_type=layer_type(path), digest=digest, size_bytes=size, path=path)
