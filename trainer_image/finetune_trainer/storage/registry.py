"""One repository of an OCI registry: manifests, and blobs that are read in ranges. Called by oci; blob_upload sends.

The libraries that there are for Python do not resume and do not limit how long they wait (docs/decisions/0020-models-in-registries.md).
"""

import hashlib
import time
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx2

from finetune_trainer.storage.blob_upload import begun, finished, in_parts, sent_whole
from finetune_trainer.storage.modelpack import INDEX_TYPES, MANIFEST_TYPE, sha256
from finetune_trainer.storage.registry_answers import Changed, Refused, good, pauses, will_pass
from finetune_trainer.storage.registry_login import RegistryAuth, login_of, scheme_of, served_by

PART_BYTES = 32 * 2**20
"""Of a blob that is sent: what is lost when a connection breaks."""

PATIENCE = httpx2.Timeout(60, connect=10)


class Registry:
    """The blobs and manifests of one repository. Raises Refused, Changed and httpx2.HTTPError; ValueError for a Secret that is none."""

    def __init__(self, host: str, repository: str, keys: Mapping[str, str]) -> None:
        scheme = scheme_of(host, keys)
        login, host = login_of(host, keys), served_by(host)
        auth = RegistryAuth(host, login, plain=scheme == "http")
        self.client = httpx2.Client(
            base_url=f"{scheme}://{host}/v2/{repository}/", auth=auth, timeout=PATIENCE, follow_redirects=True
        )
        weakref.finalize(self, self.client.close)

    def manifest(self, reference: str) -> tuple[str, bytes] | None:
        """Return digest and content of the manifest with a tag or digest; None where there is none. Raises Changed for another digest."""
        accepted = ", ".join((MANIFEST_TYPE, *INDEX_TYPES))
        response = self.ask("GET", f"manifests/{reference}", headers={"Accept": accepted})
        if response.status_code == 404:
            return None
        content = good(response).content
        digest = sha256(content)
        if reference.startswith("sha256:") and digest != reference:
            raise Changed(f"the manifest {reference} has the digest {digest}")
        return digest, content

    def put_manifest(self, reference: str, content: bytes) -> str:
        """Write a manifest, read it back, and return its digest. One that is there already is not written again."""
        digest, found = sha256(content), self.manifest(reference)
        if found is None or found[0] != digest:
            good(self.ask("PUT", f"manifests/{reference}", content=content, headers={"Content-Type": MANIFEST_TYPE}))
            found = self.manifest(reference)
        if found is None or found[0] != digest:
            raise Changed(f"the manifest {reference} is not what was sent")
        return digest

    def delete_manifest(self, digest: str) -> None:
        """Remove a manifest with all its tags."""
        response = self.ask("DELETE", f"manifests/{digest}")
        if response.status_code != 404:
            good(response)

    def has_blob(self, digest: str) -> bool:
        """Tell whether a blob is there."""
        response = self.ask("HEAD", f"blobs/{digest}")
        if response.status_code == 404:
            return False
        good(response)
        return True

    def put_content(self, content: bytes) -> str:
        """Send a small blob, unless it is there. Returns its digest."""
        digest = sha256(content)
        if not self.has_blob(digest):
            finished(self, begun(self), digest, content)
        return digest

    def put_file(self, digest: str, file: Path) -> None:
        """Send a file as a blob, unless it is there: in parts, or as a whole to a registry that takes no parts."""
        if self.has_blob(digest):
            return
        size = file.stat().st_size
        if size <= PART_BYTES:
            finished(self, begun(self), digest, file.read_bytes())
        elif (upload := in_parts(self, file, PART_BYTES)) is not None:
            finished(self, upload, digest, b"")
        else:
            sent_whole(self, digest, file)

    def check_blob(self, digest: str, size: int) -> None:
        """Read a blob back. Raises Changed where it is not what its digest says."""
        found = hashlib.sha256()
        for block in self.blocks(digest, 0, size):
            found.update(block)
        if f"sha256:{found.hexdigest()}" != digest:
            raise Changed(f"the blob {digest} has the digest sha256:{found.hexdigest()}")

    def blocks(self, digest: str, start: int, end: int) -> Iterator[bytes]:
        """Yield a part of a blob. Where the connection breaks, it goes on from there."""
        at = start
        waits = pauses()
        while at < end:
            before = at
            try:
                for block in self._streamed(digest, at, end):
                    at += len(block)
                    yield block
                reason: Exception = Changed(f"the blob {digest} ends after {at:,} of {end:,} bytes")
            except httpx2.TransportError as error:
                reason = error
            except Refused as error:
                if not error.will_pass:
                    raise
                reason = error
            if at > before:
                waits = pauses()
            elif (pause := next(waits)) is None:
                raise reason
            else:
                time.sleep(pause)

    def ask(self, method: str, url: str, **given: Any) -> httpx2.Response:
        """Send a request that may be repeated, and repeat it while that may help."""
        waits = pauses()
        while True:
            pause = next(waits)
            try:
                response = self.client.request(method, url, **given)
            except httpx2.TransportError:
                if pause is None:
                    raise
            else:
                if pause is None or not will_pass(response):
                    return response
            time.sleep(pause)

    def _streamed(self, digest: str, start: int, end: int) -> Iterator[bytes]:
        """Yield a part of a blob as far as the connection lasts."""
        headers = {"Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
        with self.client.stream("GET", f"blobs/{digest}", headers=headers) as response:
            if not response.is_success:
                response.read()
            good(response)
            skipped = start if response.status_code == 200 else 0  # a registry without ranges sends all of it
            left = end - start
            for block in response.iter_bytes(2**20):
                wanted = block[skipped : skipped + left]
                skipped, left = max(0, skipped - len(block)), left - len(wanted)
                if wanted:
                    yield wanted
                if not left:
                    return
