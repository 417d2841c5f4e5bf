"""What every place does in the same way, from the few methods in which they differ. Bases of the stores."""

from abc import ABC, abstractmethod
from pathlib import Path

from finetune_trainer.storage.store import Role


class StoreBase(ABC):
    """Addresses and small texts."""

    uri: str
    role: Role

    @abstractmethod
    def read_bytes(self, path: str, limit: int | None = None) -> bytes | None:
        """Return a file's content or its beginning; None when it does not exist."""

    def address_of(self, path: str) -> str:
        """Return where others find a folder of this place."""
        return f"{self.uri.rstrip('/')}/{path}"

    def local_folder(self) -> Path | None:
        """Return None: files must be fetched."""
        return None

    def read_text(self, path: str) -> str | None:
        """Return a small file's text; None when it does not exist."""
        content = self.read_bytes(path)
        return None if content is None else content.decode()


class ReadOnlyStore(StoreBase):
    """A place of which nothing can be written or removed."""

    @abstractmethod
    def _read_only(self) -> Exception:
        """Return the refusal, with the places that can be written."""

    def write_text(self, path: str, text: str) -> None:  # noqa: ARG002 - as are the arguments of all below
        """Refuse."""
        raise self._read_only()

    def create_text(self, path: str, text: str) -> bool:  # noqa: ARG002
        """Refuse."""
        raise self._read_only()

    def replace_text(self, path: str, old: str, new: str) -> bool:  # noqa: ARG002
        """Refuse."""
        raise self._read_only()

    def upload(self, folder: Path, path: str = "") -> None:  # noqa: ARG002
        """Refuse."""
        raise self._read_only()

    def delete(self, path: str) -> None:  # noqa: ARG002
        """Refuse."""
        raise self._read_only()
