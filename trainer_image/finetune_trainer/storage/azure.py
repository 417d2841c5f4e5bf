"""A container of Azure Blob Storage, through obstore: account key, SAS token or workload identity. Called by cloud."""

from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import obstore
from obstore import exceptions
from obstore.store import AzureStore

from finetune_trainer.storage.objects import BLOCK_BYTES, PART_BYTES, Object, Trouble

RETRIES: Any = {
    "max_retries": 8,
    "retry_timeout": timedelta(seconds=120),
    "backoff": {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=10), "base": 2},
}
REFUSED, MISSING = ("403 Forbidden", "401 Unauthorized"), "404 Not Found"
"""What the library does not tell apart while it lists."""

NO_IDENTITY = ("169.254.169.254", "no configured credentials")
"""In the words of the library: it looked for an identity and found none."""


class AzureObjects:
    """Blobs."""

    identity = "name a Secret with AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN, or use a workload identity"

    def __init__(self, account: str, container: str, keys: dict[str, str]) -> None:
        endpoint = keys.get("AZURE_STORAGE_ENDPOINT", "")
        limits: Any = {"timeout": "120s", "connect_timeout": "10s", "allow_http": endpoint.startswith("http://")}
        chosen = {
            "account_name": account, "account_key": keys.get("AZURE_STORAGE_ACCOUNT_KEY"),
            "sas_key": keys.get("AZURE_STORAGE_SAS_TOKEN"), "endpoint": endpoint or None,
        }  # fmt: skip
        given: Any = {name: value for name, value in chosen.items() if value is not None}
        self._store: Any = AzureStore(container, client_options=limits, retry_config=RETRIES, config=given)

    def listed(self, prefix: str) -> Iterable[Object]:
        """Yield all objects below a prefix."""
        for page in obstore.list(self._store, prefix.rstrip("/") or None):
            yield from map(_object, page)

    def head(self, key: str) -> Object:
        """Return what is known of an object."""
        return _object(obstore.head(self._store, key))

    def blocks(self, key: str) -> Iterator[bytes]:
        """Yield the content, block by block."""
        for block in obstore.get(self._store, key).stream(min_chunk_size=BLOCK_BYTES):
            yield bytes(block)

    def part(self, key: str, start: int, end: int) -> bytes:
        """Return a part of the content."""
        return bytes(obstore.get_range(self._store, key, start=start, end=end))

    def put(self, key: str, content: bytes) -> None:
        """Write a small object."""
        obstore.put(self._store, key, content, use_multipart=False)

    def create(self, key: str, content: bytes) -> bool:
        """Write a small object unless there is one."""
        try:
            obstore.put(self._store, key, content, mode="create", use_multipart=False)
        except (exceptions.AlreadyExistsError, exceptions.PreconditionError):
            return False
        return True

    def replace(self, key: str, old: bytes, new: bytes) -> bool:
        """Write a small object if its ETag is still that of `old`."""
        found = obstore.get(self._store, key)
        version: Any = {"e_tag": found.meta["e_tag"]}
        if bytes(found.bytes()) != old:
            return False
        try:
            obstore.put(self._store, key, new, mode=version, use_multipart=False)
        except exceptions.PreconditionError:
            return False
        return True

    def put_file(self, key: str, file: Path) -> None:
        """Send a file; its blocks are committed at the end."""
        obstore.put(self._store, key, file, chunk_size=PART_BYTES, use_multipart=file.stat().st_size > PART_BYTES)

    def delete(self, key: str) -> None:
        """Remove an object."""
        obstore.delete(self._store, key)

    def trouble(self, error: Exception) -> Trouble | None:
        """Return what an error of the library means."""
        text = str(error)
        if not isinstance(error, exceptions.BaseError):
            return "unreadable credentials" if isinstance(error, ValueError) else None
        refused = exceptions.PermissionDeniedError | exceptions.UnauthenticatedError
        if any(words in text for words in NO_IDENTITY):
            return "no identity"
        if isinstance(error, refused) or any(status in text for status in REFUSED):
            return "refused"
        if MISSING in text:
            return "missing"
        return "unreadable credentials" if "decod" in text else "unreachable"


def _object(item: Any) -> Object:
    return Object(key=item["path"], size_bytes=item["size"], fingerprint=(item["e_tag"] or "").strip('"'))
