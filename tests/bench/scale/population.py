"""A cluster full of finished jobs, without the hours that they ran: copies of one job and its Pods, put into etcd."""

import base64
import json
from typing import Any
from urllib.request import Request, urlopen

from finetune_operator.local.state import read_json

from tests.bench.scale.cluster import NAMESPACE, Cluster
from tests.cluster.client import FINETUNE, ApiError

BATCH = 100
NAME = "seed-{:05}"
JOBS = f"{FINETUNE}/namespaces/{NAMESPACE}/finetunejobs"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"


def populate(cluster: Cluster, copies: int, *, preflight: bool = True) -> None:
    """Copy job `seed-00000` and its Pods. Names and uids keep their length, so that a protobuf stays one."""
    pods = f"/registry/pods/{NAMESPACE}/{NAME.format(0)}-"
    jobs = f"/registry/finetune.dev/finetunejobs/{NAMESPACE}/{NAME.format(0)}"
    found = [*read(cluster, jobs), *(each for each in read(cluster, pods) if preflight or "preflight" not in each[0])]
    uids = cluster_uids(cluster)
    writes = []
    for number in range(1, copies + 1):
        for key, value in found:
            for uid in uids:
                value = value.replace(uid.encode(), f"{number:08x}{uid[8:]}".encode())  # noqa: PLW2901  # a copy of it
            name = NAME.format(number)
            writes.append((key.replace(NAME.format(0), name), value.replace(NAME.format(0).encode(), name.encode())))
    for start in range(0, len(writes), BATCH):
        puts = [
            {"requestPut": {"key": encoded(key.encode()), "value": encoded(value)}}
            for key, value in writes[start : start + BATCH]
        ]
        ask(cluster, "txn", {"success": puts})


def has_caught_up(cluster: Cluster) -> bool:
    """Tell whether the API server's caches have taken in what was put into etcd behind its back."""
    now = ask(cluster, "range", {"key": encoded(b"/")})["header"]["revision"]
    fresh = f"limit=1&resourceVersion={now}&resourceVersionMatch=NotOlderThan"
    try:
        return all(cluster.client.get(f"{path}?{fresh}") for path in (JOBS, PODS))
    except ApiError:
        return False


def cluster_uids(cluster: Cluster) -> list[str]:
    """Return the uids of the job that is copied and of its Pods."""
    found = [*cluster.client.items(JOBS), *cluster.client.items(PODS)]
    return [each["metadata"]["uid"] for each in found if each["metadata"]["name"].startswith(NAME.format(0))]


def read(cluster: Cluster, prefix: str) -> list[tuple[str, bytes]]:
    """Return what etcd has under a prefix."""
    end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
    answer = ask(cluster, "range", {"key": encoded(prefix.encode()), "range_end": encoded(end.encode())})
    return [(base64.b64decode(each["key"]).decode(), base64.b64decode(each["value"])) for each in answer.get("kvs", ())]


def ask(cluster: Cluster, what: str, body: object) -> dict[str, Any]:
    """Ask etcd through its JSON gateway."""
    ports = read_json(cluster.state.settings)
    url = f"http://127.0.0.1:{ports['etcd']}/v3/kv/{what}"
    with urlopen(Request(url, json.dumps(body).encode()), timeout=60) as answer:
        return json.loads(answer.read())


def encoded(text: bytes) -> str:
    """Return bytes as the gateway takes them."""
    return base64.b64encode(text).decode()
