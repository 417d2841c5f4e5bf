"""A small synchronous client for tests: what a user or a kubelet would send, without our own code in between."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import urllib3
from finetune_operator.api.pinned import join
from kubernetes import config

Raw = dict[str, Any]

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
FINETUNE = "/apis/finetune.dev/v1alpha1"


GARBAGE_SECONDS = 60
"""So long the children of a deleted job may stay: the garbage collector learns of a new kind only every half minute."""


class ApiError(Exception):
    """The API server refused; `status` says how."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status} {message}")
        self.status = status
        self.message = message


class Client:
    """Speaks to one API server with the identity of a kubeconfig, or with a token instead."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        client = config.new_client_from_config(str(kubeconfig), persist_config=False)
        configuration = client.configuration
        self.host = configuration.host
        self.ca_file = configuration.ssl_ca_cert
        self.pool = urllib3.PoolManager(
            num_pools=4,
            maxsize=16,
            ca_certs=configuration.ssl_ca_cert,
            cert_file=configuration.cert_file,
            key_file=configuration.key_file,
        )

    def request(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Raw:
        """Send one request and return the answer. Raises ApiError for anything but 2xx."""
        data = None if body is None else json.dumps(body)
        answer = self.pool.request(
            method, self.host + path, body=data, headers={"Content-Type": content_type}, timeout=30, retries=False
        )
        if answer.status >= 300:
            raise ApiError(answer.status, message_of(answer.data))
        return json.loads(answer.data or b"{}")

    def get(self, path: str) -> Raw:
        return self.request("GET", path)

    def find(self, path: str) -> Raw | None:
        """Return an object, None where it does not exist."""
        try:
            return self.get(path)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def items(self, path: str, **query: str) -> list[Raw]:
        return self.get(f"{path}?{urlencode(query)}")["items"]

    def create(self, path: str, body: Raw) -> Raw:
        return self.request("POST", path, body)

    def whole(self, path: str) -> Raw:
        """Return a job with the parts of its FineTunePlan in its status."""
        job = self.get(path)
        name = job.get("status", {}).get("planName")
        return (
            join(job, self.get(f"{path.rpartition('/')[0].removesuffix('finetunejobs')}finetuneplans/{name}"))
            if name
            else job
        )

    def ensure(self, path: str, body: Raw) -> None:
        """Create an object unless it exists."""
        try:
            self.create(path, body)
        except ApiError as error:
            if error.status != 409:
                raise

    def patch(self, path: str, body: Raw, content_type: str = MERGE) -> Raw:
        return self.request("PATCH", path, body, content_type)

    def delete(self, path: str, **options: Any) -> None:
        self.request("DELETE", path, {"apiVersion": "v1", "kind": "DeleteOptions", **options})

    def watch(self, path: str, version: str, stopped: Callable[[], bool], **query: str) -> Iterator[Raw]:
        """Yield watch events until `stopped`. The server ends each request after two seconds; the next one goes on."""
        while not stopped():
            asked = {
                **query,
                "watch": "1",
                "resourceVersion": version,
                "timeoutSeconds": "2",
                "allowWatchBookmarks": "true",
            }
            for event in self._stream(f"{path}?{urlencode(asked)}"):
                version = event["object"]["metadata"]["resourceVersion"]
                if event["type"] != "BOOKMARK":
                    yield event

    def _stream(self, path: str) -> Iterator[Raw]:
        answer = self.pool.request("GET", self.host + path, preload_content=False, timeout=30, retries=False)
        buffer = b""
        while chunk := answer.read1(65536):
            *lines, buffer = (buffer + chunk).split(b"\n")
            yield from (json.loads(line) for line in lines if line)
        answer.release_conn()


def message_of(data: bytes) -> str:
    """Return the sentence of a refusal; a path that is not served is refused in plain text."""
    try:
        return json.loads(data)["message"]
    except ValueError:
        return data.decode()


def eventually(question: Callable[[], Any], what: str, seconds: float = 30) -> Any:
    """Return the first truthy answer. Fails with `what` when none comes in time."""
    deadline = time.monotonic() + seconds
    answer = question()
    while not answer:
        if time.monotonic() > deadline:
            raise AssertionError(f"not in {seconds} s: {what}; last answer: {answer!r}")
        time.sleep(0.05)
        answer = question()
    return answer
