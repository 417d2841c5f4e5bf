"""An OpenAI-compatible endpoint that judges by a rule: a real HTTP server on a port of this machine."""

import contextlib
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

from finetune_operator.local.ports import HOST

Rule = Callable[[str, str, int], str | int]
"""(answer A, answer B, number of the request) -> the judge's words, or an HTTP status"""


class JudgeServer:
    """Keeps what it was asked."""

    def __init__(self, rule: Rule) -> None:
        self.requests: list[dict[str, Any]] = []
        self.keys: set[str] = set()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer._lock:
                    outer.requests.append(body)
                    outer.keys.add(self.headers.get("Authorization", ""))
                    number = len(outer.requests)
                text = body["messages"][1]["content"]
                first, second = text.split("## Answer A\n")[1].split("\n\n## Answer B\n")
                said = rule(first, second, number)
                if isinstance(said, int):
                    self._answer(said, {"error": {"message": f"status {said} on purpose"}})
                else:
                    usage = {"prompt_tokens": 100, "completion_tokens": 7}
                    self._answer(200, {"choices": [{"message": {"content": said}}], "usage": usage})

            def _answer(self, status: int, body: Any) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                """Nobody reads it."""

        self._lock = threading.Lock()
        self._server = http.server.ThreadingHTTPServer((HOST, 0), Handler)
        self.endpoint = f"http://{HOST}:{self._server.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextlib.contextmanager
def judging(rule: Rule) -> Iterator[JudgeServer]:
    """Run a server while the block runs."""
    server = JudgeServer(rule)
    try:
        yield server
    finally:
        server.close()
