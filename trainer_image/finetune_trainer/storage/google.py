"""A bucket of Google Cloud Storage, through its own client: the key of a service account or workload identity. Called by cloud."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import requests
from google.api_core.exceptions import Forbidden, GoogleAPIError, NotFound, PreconditionFailed, Unauthorized
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, RefreshError
from google.cloud import storage
from google.cloud.storage.retry import DEFAULT_RETRY
from google.oauth2.service_account import Credentials

from finetune_trainer.storage.objects import BLOCK_BYTES, PART_BYTES, Object, Trouble

SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"
RETRY = DEFAULT_RETRY.with_timeout(120)
"""Also of uploads: to write the same content twice is harmless."""

PATIENCE: Any = {"timeout": (10, 120), "retry": RETRY}


class GoogleObjects:
    """Objects of a bucket."""

    identity = "name a Secret with GOOGLE_CREDENTIALS (the JSON of a service account's key), or use a workload identity"

    def __init__(self, _account: str, container: str, keys: dict[str, str]) -> None:
        key, endpoint = keys.get("GOOGLE_CREDENTIALS"), keys.get("GOOGLE_STORAGE_ENDPOINT")
        credentials: Any = None
        if key:
            credentials = Credentials.from_service_account_info(json.loads(key), scopes=[SCOPE])
        elif endpoint:
            credentials = AnonymousCredentials()
        options = {"api_endpoint": endpoint} if endpoint else None
        self._client = storage.Client(project="unused", credentials=credentials, client_options=options)
        self._bucket = self._client.bucket(container)

    def listed(self, prefix: str) -> Iterable[Object]:
        """Yield all objects below a prefix."""
        found = self._client.list_blobs(self._bucket, prefix=prefix or None, **PATIENCE)
        return (_object(blob) for blob in found if not blob.name.endswith("/"))

    def head(self, key: str) -> Object:
        """Return what is known of an object."""
        return _object(self._known(key))

    def blocks(self, key: str) -> Iterator[bytes]:
        """Yield the content, block by block."""
        with self._known(key).open("rb", chunk_size=BLOCK_BYTES, **PATIENCE) as source:
            while block := source.read(BLOCK_BYTES):
                yield block

    def part(self, key: str, start: int, end: int) -> bytes:
        """Return a part of the content."""
        return bytes(self._bucket.blob(key).download_as_bytes(start=start, end=end - 1, **PATIENCE))

    def put(self, key: str, content: bytes) -> None:
        """Write a small object."""
        self._bucket.blob(key).upload_from_string(content, **PATIENCE)

    def create(self, key: str, content: bytes) -> bool:
        """Write a small object unless there is one."""
        return self._put_if(key, content, generation=0)

    def replace(self, key: str, old: bytes, new: bytes) -> bool:
        """Write a small object if its generation is still that of `old`."""
        blob = self._known(key)
        generation = blob.generation
        if bytes(blob.download_as_bytes(if_generation_match=generation, **PATIENCE)) != old:
            return False
        return self._put_if(key, new, generation=generation)

    def put_file(self, key: str, file: Path) -> None:
        """Send a file by a resumable upload, which is an object when it is complete."""
        self._bucket.blob(key, chunk_size=PART_BYTES).upload_from_filename(str(file), **PATIENCE)

    def delete(self, key: str) -> None:
        """Remove an object."""
        try:
            self._bucket.blob(key).delete(**PATIENCE)
        except NotFound as error:
            raise FileNotFoundError(key) from error

    def trouble(self, error: Exception) -> Trouble | None:
        """Return what an error of the library means."""
        match error:
            case DefaultCredentialsError():
                return "no identity"
            case Forbidden() | Unauthorized() | RefreshError():
                return "refused"
            case NotFound():
                return "missing"
            case GoogleAPIError() | GoogleAuthError() | requests.RequestException():
                return "unreachable"
            case ValueError():
                return "unreadable credentials"
        return None

    def _known(self, key: str) -> Any:
        blob = self._bucket.get_blob(key, **PATIENCE)
        if blob is None:
            raise FileNotFoundError(key)
        return blob

    def _put_if(self, key: str, content: bytes, *, generation: int) -> bool:
        try:
            self._bucket.blob(key).upload_from_string(content, if_generation_match=generation, **PATIENCE)
        except PreconditionFailed:
            return False
        return True


def _object(blob: Any) -> Object:
    return Object(key=blob.name, size_bytes=blob.size, fingerprint=str(blob.etag or blob.generation or ""))
