"""A repository of a model hub, through huggingface_hub. Token and endpoint from the Secret or the environment."""

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, cast

import httpx2
from huggingface_hub import CommitOperationAdd, HfApi, HfFileSystem
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils.tqdm import disable_progress_bars

from finetune_trainer.errors import ReportedError, StorageFull, StorageUnavailable, UserError
from finetune_trainer.storage.addresses import Address, confined
from finetune_trainer.storage.base import StoreBase
from finetune_trainer.storage.store import Role, StoredFile, matching, not_found, unauthorized
from finetune_trainer.storage.transfer import alone
from finetune_trainer.storage.untrusted import or_untrusted

DEFAULT_ENDPOINT = "https://huggingface.co"
LOST_RACE = (409, 412)

disable_progress_bars()  # a Pod's log is no terminal


class HubStore(StoreBase):
    """Files of one repository at one commit."""

    def __init__(self, address: Address, role: Role, keys: dict[str, str], *, revision: str, secret: str) -> None:
        if "/" in address.path and "*" not in address.path:
            raise UserError(
                "InvalidSpec", f"{address.uri!r}: hf:// takes ORG/NAME, such as hf://HuggingFaceTB/SmolLM2-135M"
            )
        name, _, self._pattern = address.path.partition("/")
        self.uri = address.uri
        self.role = role
        self._repo = f"{address.authority}/{name}"
        self._type = "dataset" if role is Role.DATASET else "model"
        self._secret = secret
        self._wanted = revision or None
        self._revision = ""
        self._endpoint = (keys.get("HF_ENDPOINT") or os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")
        self._token: str | bool = keys.get("HF_TOKEN") or os.environ.get("HF_TOKEN") or False
        self._api = HfApi(endpoint=self._endpoint, token=self._token)

    @property
    def revision(self) -> str:
        """Commit that the wanted revision points to; asked once, so that one run sees one commit."""
        if not self._revision:
            with self._wording():
                info = self._api.repo_info(self._repo, repo_type=self._type, revision=self._wanted, timeout=60)
            self._revision = info.sha or ""
        return self._revision

    def files(self, under: str = "") -> tuple[StoredFile, ...]:
        """List all files of the commit below a folder."""
        commit = self.revision
        with self._wording():
            try:
                tree = list(
                    self._api.list_repo_tree(
                        self._repo, under or None, recursive=True, revision=commit, repo_type=self._type
                    )
                )
            except EntryNotFoundError:
                return ()
            found = tuple(sorted(_described(item) for item in tree if isinstance(item, RepoFile)))
            return matching(found, self._pattern) if self._pattern else found

    def fetch(self, into: Path, paths: Sequence[str] | None = None) -> Path:
        """Download the files of the commit that are not there yet."""
        commit = self.revision
        with alone(into), self._wording():
            self._api.snapshot_download(
                self._repo,
                repo_type=self._type,
                revision=commit,
                local_dir=into,
                allow_patterns=None if paths is None else list(paths),
            )
        return into

    def open(self, path: str) -> BinaryIO:
        """Open a file for reading in ranges."""
        with self._wording():
            return self._opened(path)

    def _opened(self, path: str, **how: str) -> BinaryIO:
        commit = self.revision
        prefix = "datasets/" if self._type == "dataset" else ""
        files = HfFileSystem(endpoint=self._endpoint, token=self._token, skip_instance_cache=True)
        return cast("BinaryIO", files.open(f"{prefix}{self._repo}@{commit}/{path}", "rb", revision=commit, **how))

    def read_bytes(self, path: str, limit: int | None = None) -> bytes | None:
        """Return a file's content or its beginning."""
        confined(path, self.uri)
        if limit is not None:
            with self._wording(), self._opened(path, cache_type="none") as file:  # others read megabytes ahead
                return file.read(limit)
        return self._downloaded(path, self.revision)

    def read_text(self, path: str) -> str | None:
        """Return a small file's text at the newest commit: claims and manifests change while we look."""
        with self._wording():
            try:
                head = self._head()
            except RepositoryNotFoundError:
                if self.role in (Role.OUTPUT, Role.CHECKPOINT):
                    return None  # not created yet
                raise
        content = self._downloaded(path, head)
        return None if content is None else content.decode()

    def write_text(self, path: str, text: str) -> None:
        """Commit a small file."""
        with self._wording():
            self._created()
            self._commit(path, text, None)

    def create_text(self, path: str, text: str) -> bool:
        """Commit only if there is no such file; a commit in between makes the hub refuse ours."""
        with self._wording():
            self._created()
            head = self._head()
            if self._downloaded(path, head) is not None:
                return False
            return self._commit_if(path, text, head)

    def replace_text(self, path: str, old: str, new: str) -> bool:
        """Commit only if the file still holds `old`."""
        with self._wording():
            head = self._head()
            content = self._downloaded(path, head)
            return content is not None and content.decode() == old and self._commit_if(path, new, head)

    def upload(self, folder: Path, path: str = "") -> None:
        """Commit all files of a local folder at once."""
        with self._wording():
            self._created()
            self._api.upload_folder(
                repo_id=self._repo,
                folder_path=folder,
                path_in_repo=path or None,
                repo_type=self._type,
                commit_message=f"Upload {path or 'files'}",
            )
        self._revision = ""

    def exists(self, path: str) -> bool:
        """Tell whether there is a file or a folder."""
        self._revision = ""
        return any(file.path == path or file.path.startswith(f"{path}/") for file in self.files())

    def delete(self, path: str) -> None:
        """Commit the removal of a file or folder."""
        self._revision = ""
        doomed = [file.path for file in self.files() if file.path == path or file.path.startswith(f"{path}/")]
        if doomed:
            with self._wording():
                self._api.delete_files(self._repo, doomed, repo_type=self._type, commit_message=f"Delete {path}")
            self._revision = ""

    def _created(self) -> None:
        """Repositories that we create are private: publishing to the world is a decision of people."""
        self._api.create_repo(self._repo, repo_type=self._type, private=True, exist_ok=True)

    def _head(self) -> str:
        return self._api.repo_info(self._repo, repo_type=self._type, timeout=60).sha or ""

    def _downloaded(self, path: str, commit: str) -> bytes | None:
        with self._wording(), tempfile.TemporaryDirectory() as folder:
            try:
                file = self._api.hf_hub_download(
                    self._repo, path, repo_type=self._type, revision=commit, local_dir=folder
                )
            except EntryNotFoundError:
                return None
            return Path(file).read_bytes()

    def _commit(self, path: str, text: str, parent: str | None) -> None:
        self._api.create_commit(
            self._repo,
            [CommitOperationAdd(path, text.encode())],
            repo_type=self._type,
            commit_message=f"Write {path}",
            parent_commit=parent,
        )
        self._revision = ""

    def _commit_if(self, path: str, text: str, parent: str) -> bool:
        try:
            self._commit(path, text, parent)
        except HfHubHTTPError as error:
            if _status(error) in LOST_RACE:
                return False
            raise
        return True

    @contextlib.contextmanager
    def _wording(self) -> Iterator[None]:
        try:
            yield
        except (ReportedError, EntryNotFoundError):
            raise
        except HFValidationError as error:
            raise UserError("InvalidSpec", f"{self.uri!r} is not a repository on the hub: {error}") from error
        except (OSError, httpx2.HTTPError) as error:
            raise self._worded(error) from error
        except RuntimeError as error:  # an upload that failed: the reason is its cause
            if not isinstance(error.__cause__, OSError | httpx2.HTTPError):
                raise
            raise self._worded(error.__cause__) from error

    def _worded(self, error: Exception) -> Exception:
        status, who = _status(error), self._identity()
        if isinstance(error, GatedRepoError):
            remedy = f"accept its terms at {self._endpoint}/{self._repo} with the account that owns the token"
            return unauthorized(self.role, f"the {self.role} {self.uri} is gated and {who} has no access: {remedy}")
        if isinstance(error, RevisionNotFoundError):
            return not_found(self.role, f"the revision {self._wanted} of the {self.role} {self.uri}")
        if status in (401, 403) and self._token:
            remedy = "check HF_TOKEN in the credentials Secret: it may have expired or lack permission"
            return unauthorized(self.role, f"the hub refuses {who} for the {self.role} {self.uri} ({status}): {remedy}")
        if isinstance(error, RepositoryNotFoundError) or status == 401:  # what the hub answers to strangers for both
            hint = "" if self._token else ", or is private: if so, name a Secret with HF_TOKEN as its credentials"
            return _with_hint(not_found(self.role, f"the {self.role} {self.uri}"), hint)
        if status == 403:
            return unauthorized(
                self.role, f"the hub requires a token for the {self.role} {self.uri}: name a Secret with HF_TOKEN"
            )
        if getattr(error, "errno", None) == 28:
            return StorageFull(f"no space is left on the Pod's disk while fetching the {self.role} {self.uri}")
        what = f"HTTP {status}" if status else or_untrusted(error, type(error).__name__)
        return StorageUnavailable(
            f"the hub at {self._endpoint} does not answer for the {self.role} {self.uri} ({what})"
        )

    def _identity(self) -> str:
        if not self._token:
            return "anonymous access"
        return f"the token in Secret {self._secret}" if self._secret else "the token from the environment"


def _described(item: RepoFile) -> StoredFile:
    fingerprint = item.lfs.sha256 if item.lfs else item.blob_id
    return StoredFile(path=item.path, size_bytes=item.size, fingerprint=fingerprint)


def _status(error: BaseException) -> int:
    response = getattr(error, "response", None)
    return int(getattr(response, "status_code", 0) or 0)


def _with_hint(error: UserError, hint: str) -> UserError:
    return UserError(error.reason, error.message + hint)
