"""A door in front of a server: it lets bytes through, slowly if asked to, holds them back, or hangs up."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

from finetune_operator.local.ports import HOST

CHUNK = 16 * 1024


class Gate:
    """Forwards connections of one port to another server."""

    def __init__(self, port: int, *, bytes_per_second: float = float("inf")) -> None:
        self._target = port
        self._pace = bytes_per_second
        self._open = threading.Event()
        self._open.set()
        self._refusing = False
        self._lock = threading.Lock()
        self._listener = socket.create_server((HOST, 0))
        self.endpoint = f"http://{HOST}:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def hold(self) -> None:
        """Let nothing through from now on; nobody is told."""
        self._open.clear()

    def refuse(self) -> None:
        """Hang up on everybody."""
        self._refusing = True

    def open(self) -> None:
        """Let everything through again, also what was held."""
        self._refusing = False
        self._open.set()

    def close(self) -> None:
        """Take no more connections."""
        self.open()
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client, socket.create_connection((HOST, self._target)) as server:
            back = threading.Thread(target=self._pump, args=(server, client), daemon=True)
            back.start()
            self._pump(client, server, gated=True)
            back.join()

    def _pump(self, source: socket.socket, sink: socket.socket, *, gated: bool = False) -> None:
        with contextlib.suppress(OSError):
            while part := source.recv(CHUNK):
                if gated and not self._admits(len(part)):
                    break
                sink.sendall(part)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _admits(self, size: int) -> bool:
        self._open.wait()
        with self._lock:  # the pace is that of all connections together
            time.sleep(size / self._pace)
        return not self._refusing


@contextlib.contextmanager
def gate(endpoint: str, *, bytes_per_second: float = float("inf")) -> Iterator[Gate]:
    """Put a gate in front of a server on this machine until the end of the block."""
    built = Gate(int(endpoint.rpartition(":")[2]), bytes_per_second=bytes_per_second)
    try:
        yield built
    finally:
        built.close()
