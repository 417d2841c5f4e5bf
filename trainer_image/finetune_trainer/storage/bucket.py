"""A prefix of an S3 bucket, through s3fs. Keys and endpoint from the Secret, else the ambient identity.

An object appears whole or not at all. A result is read back and compared before its upload counts.
"""

import contextlib
import hashlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

import s3fs
from botocore.exceptions import (  # type: ignore[import-untyped]  # it has no annotations
    BotoCoreError,
    ClientError,
    FlexibleChecksumError,
    NoCredentialsError,
    PartialCredentialsError,
)

from finetune_trainer.errors import ReportedError, StorageFull, StorageUnavailable, UserError
from finetune_trainer.storage import bucket_upload
from finetune_trainer.storage.addresses import Address
from finetune_trainer.storage.keyed import KeyedStore
from finetune_trainer.storage.retries import CONFIG, patient
from finetune_trainer.storage.store import Role, StoredFile, not_found, unauthorized
from finetune_trainer.storage.untrusted import or_untrusted

MISSING = ("NoSuchKey", "NoSuchBucket", "404")
REFUSED = (
    "AccessDenied", "403", "401", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken",
    "AllAccessDisabled",
)  # fmt: skip
MOST_KEYS = 1000
"""In one request that deletes."""

READ_BYTES = 16 * 2**20
"""In one request that reads an object back."""

FULL = ("QuotaExceeded", "StorageFull", "XMinioStorageFull", "507")
LOST_RACE = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")


class BucketStore(KeyedStore):
    """Objects below one prefix."""

    def __init__(self, address: Address, role: Role, keys: dict[str, str]) -> None:
        super().__init__(address.uri, role, address.path)
        self._bucket = address.authority
        client = s3fs.S3FileSystem(
            key=keys.get("AWS_ACCESS_KEY_ID"),
            secret=keys.get("AWS_SECRET_ACCESS_KEY"),
            token=keys.get("AWS_SESSION_TOKEN"),
            endpoint_url=keys.get("AWS_ENDPOINT_URL"),
            client_kwargs={"region_name": keys["AWS_REGION"]} if "AWS_REGION" in keys else {},
            config_kwargs=CONFIG,
            use_listings_cache=False,
            skip_instance_cache=True,
        )
        self._s3: Any = patient(client)
        self._ask: bucket_upload.Ask = partial(self._s3.call_s3, Bucket=self._bucket)

    def open(self, path: str) -> BinaryIO:
        """Open an object for reading in ranges."""
        with self._wording():
            return cast("BinaryIO", self._s3.open(f"{self._bucket}/{self._key_of(path)}", "rb"))

    def read_bytes(self, path: str, limit: int | None = None) -> bytes | None:
        """Return an object's content or its beginning."""
        wanted = {} if limit is None else {"Range": f"bytes=0-{limit - 1}"}
        with self._wording():
            try:
                return self._body(self._key_of(path), **wanted)[0]
            except FileNotFoundError:
                return None

    def write_text(self, path: str, text: str) -> None:
        """Write a small object."""
        with self._wording():
            self._put(path, text)

    def create_text(self, path: str, text: str) -> bool:
        """Write only if there is no such object (If-None-Match)."""
        with self._wording():
            return self._put_if(path, text, IfNoneMatch="*")

    def replace_text(self, path: str, old: str, new: str) -> bool:
        """Write only if the object still holds `old` (If-Match on its ETag)."""
        with self._wording():
            try:
                content, etag = self._body(self._key(path))
            except FileNotFoundError:
                return False
            return content.decode() == old and self._put_if(path, new, IfMatch=etag)

    def exists(self, path: str) -> bool:
        """Tell whether there is an object, or any below the prefix."""
        with self._wording():
            return bool(self._s3.exists(f"{self._bucket}/{self._key(path)}"))

    def delete(self, path: str) -> None:
        """Remove an object or all below a prefix. Raises UserError where that is not allowed: s3fs would not tell."""
        key = self._key(path)
        with self._wording():
            bucket_upload.abandon(self._ask, key)
            keys = [key, *(self._key(file.path) for file in self._listed(key))]
            for first in range(0, len(keys), MOST_KEYS):
                doomed = [{"Key": each} for each in keys[first : first + MOST_KEYS]]
                answer = self._s3.call_s3(
                    "delete_objects", Bucket=self._bucket, Delete={"Objects": doomed, "Quiet": True}
                )
                for refused in answer.get("Errors", ()):
                    raise ClientError({"Error": refused}, "DeleteObjects")

    def _listed(self, prefix: str) -> tuple[StoredFile, ...]:
        """All objects below a prefix, from the server: s3fs's own listing hides that a bucket does not exist."""
        start, token, found = f"{prefix}/" if prefix else "", "", []
        while True:
            more = {"ContinuationToken": token} if token else {}
            page = self._s3.call_s3("list_objects_v2", Bucket=self._bucket, Prefix=start, **more)
            found += [
                self._described(item, self._prefix) for item in page.get("Contents", ()) if item["Key"][-1] != "/"
            ]
            token = page.get("NextContinuationToken", "")
            if not token:
                return tuple(sorted(found))

    def _single(self) -> tuple[StoredFile, ...]:
        try:
            head = self._s3.call_s3("head_object", Bucket=self._bucket, Key=self._prefix)
        except FileNotFoundError:
            return ()
        head |= {"Key": self._prefix, "Size": head["ContentLength"]}
        return (self._described(head, self._prefix.rpartition("/")[0]),)

    def _described(self, item: dict[str, Any], base: str) -> StoredFile:
        path = item["Key"].removeprefix(f"{base}/" if base else "")
        return StoredFile(path=path, size_bytes=item["Size"], fingerprint=item["ETag"].strip('"'))

    def _body(self, key: str, **wanted: str) -> tuple[bytes, str]:
        response = self._s3.call_s3("get_object", Bucket=self._bucket, Key=key, **wanted)
        return s3fs.core.sync(self._s3.loop, response["Body"].read), response["ETag"]

    def _put(self, path: str, text: str, **condition: str) -> None:
        self._s3.call_s3("put_object", Bucket=self._bucket, Key=self._key(path), Body=text.encode(), **condition)

    def _put_if(self, path: str, text: str, **condition: str) -> bool:
        try:
            self._put(path, text, **condition)
        except FileExistsError:
            return False
        except OSError as error:
            if _code(error) in LOST_RACE:
                return False
            raise
        return True

    def _save(self, key: str, file: Path) -> None:
        self._s3.get_file(f"{self._bucket}/{key}", str(file))

    def _send(self, file: Path, path: str) -> None:
        key, size = self._key(path), file.stat().st_size
        if size > bucket_upload.PART_BYTES:
            bucket_upload.send_in_parts(self._ask, key, file)
        elif size:
            self._s3.put_file(str(file), f"{self._bucket}/{key}")
        else:
            self._put(path, "")

    def _digest(self, key: str) -> str:
        try:
            with self._s3.open(f"{self._bucket}/{key}", "rb", block_size=READ_BYTES) as content:
                return hashlib.file_digest(content, "sha256").hexdigest()
        except (FileNotFoundError, FlexibleChecksumError):
            return ""

    @contextlib.contextmanager
    def _wording(self) -> Iterator[None]:
        try:
            yield
        except ReportedError:
            raise
        except (OSError, BotoCoreError, ClientError) as error:
            raise self._worded(error) from error

    def _worded(self, error: Exception) -> Exception:
        where, code = f"{self.role} {self.uri}", _code(error)
        if isinstance(error, NoCredentialsError | PartialCredentialsError):
            remedy = "name a Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use a workload identity"
            return unauthorized(self.role, f"there are no credentials for the {where}: {remedy}")
        if code in REFUSED or isinstance(error, PermissionError):
            remedy = "check the keys in its credentials Secret and their permissions"
            return unauthorized(self.role, f"the {where} refuses access ({code or 'AccessDenied'}): {remedy}")
        if code == "NoSuchUpload":
            return StorageUnavailable(f"the {where} dropped an upload before it was complete: the upload is retried")
        if code in MISSING or isinstance(error, FileNotFoundError):
            return not_found(self.role, f"the bucket {self._bucket} of the {where}")
        if code in FULL or getattr(error, "errno", None) == 28:
            return StorageFull(
                f"no space is left at the {where}, or on the Pod's own disk: free some space or raise the quota"
            )
        if code == "PermanentRedirect":
            return UserError(
                "InvalidSpec", f"the {where} is in another region: set AWS_REGION in its credentials Secret"
            )
        advice = or_untrusted(error, "check AWS_ENDPOINT_URL, or wait")
        return StorageUnavailable(f"the {where} does not answer ({code or type(error).__name__}): {advice}")


def _code(error: BaseException) -> str:
    """The S3 error code, which s3fs keeps on the cause of what it raises."""
    for candidate in (error, error.__cause__):
        response = getattr(candidate, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
    return ""
