"""The measurements: a burst, a steady rate, a cold start. Each prints what it found."""

import contextlib
import json
import time
from collections.abc import Iterator

from tests.bench.scale.cluster import NAMESPACE, Cluster
from tests.bench.scale.contenders import PODS, Contender, a_gang, ours, phase
from tests.bench.scale.load import Stopwatch, between, create
from tests.bench.scale.meter import Meter, Peak, awake, rss_mib, settled
from tests.cluster.client import Raw, eventually

LONGEST_SECONDS = 900


@contextlib.contextmanager
def watched(cluster: Cluster, contender: Contender) -> Iterator[tuple[Stopwatch, Stopwatch]]:
    """Watch jobs and their training Pods."""

    def job_of(pod: Raw) -> str:
        labels = pod["metadata"].get("labels") or {}
        return "" if labels.get("finetune.dev/role") == "preflight" else str(labels.get(contender.label, ""))

    marks = {"created": lambda _: True, "succeeded": phase("Succeeded")}
    jobs = Stopwatch(cluster.client, contender.jobs, contender.marks, lambda raw: str(raw["metadata"]["name"]))
    with jobs, Stopwatch(cluster.client, PODS, marks, job_of) as pods:
        yield jobs, pods


def load(cluster: Cluster, contender: Contender, operator: int, number: int, per_second: float = 0) -> None:
    """Create jobs at a rate, or all at once; wait until all have finished and print what it took and cost."""
    cluster.clear(contender.jobs, *contender.children)
    settled(operator)  # deletions of what was there before are not this load's
    meter = Meter({"operator": operator, "API server": cluster.apiserver_pid}, cluster.audit_log)
    names = [f"{'steady' if per_second else 'burst'}-{index}" for index in range(number)]
    with watched(cluster, contender) as (jobs, pods), Peak(operator) as peak:
        began = time.monotonic()
        sent = create(cluster.client, contender.jobs, [contender.job(name) for name in names], per_second)
        eventually(lambda: len(jobs.seen["finished"]) >= number, "all have finished", LONGEST_SECONDS)
        seconds = time.monotonic() - began
        settled(operator)
    pods_made = contender.pods_per_job * number
    print(f"{contender.name}, {number} jobs {f'at {per_second:g} a second' if per_second else 'at once'}:")
    print(f"  all finished after {seconds:.1f} s: {number / seconds:.1f} jobs/s, {pods_made / seconds:.1f} Pods/s")
    print(f"  create -> Running {between(sent, jobs.seen['running'])} (p50 / p99)")
    print(f"  training Pod succeeded -> finished {between(pods.seen['succeeded'], jobs.seen['finished'])}")
    apiserver, own = 1000 * meter.cpu("API server") / number, 1000 * meter.cpu("operator") / number
    print(f"  API server {apiserver:.1f} CPU ms a job, {apiserver / contender.pods_per_job:.1f} a Pod")
    print(f"  operator {own:.1f} CPU ms a job, {peak.mib:.0f} MiB at its peak")
    tell_writes(meter, contender, number)


def steady(cluster: Cluster, contender: Contender, operator: int, per_second: float, seconds: int) -> None:
    """Create jobs at a rate, on the machine as it is and while none of its cores falls idle."""
    number = int(per_second * seconds)
    load(cluster, contender, operator, number, per_second)
    print("with no core idle, ", end="")
    with awake():
        load(cluster, contender, operator, number, per_second)


def tell_writes(meter: Meter, contender: Contender, number: int) -> None:
    """Print the writes per job."""
    writes = meter.writes(contender.client)
    events = sum(count for what, count in writes.items() if " events" in what)
    print(f"  {writes.total() / number:.2f} writes a job, {(writes.total() - events) / number:.2f} without Events:")
    for what, count in sorted(writes.items()):
        print(f"    {what}: {count / number:.2f}")


def cold_start(cluster: Cluster, contender: Contender) -> None:
    """Start an operator beside what is there, wait until it is quiet, and print what that took and cost."""
    jobs, pods = (number_of(cluster, path) for path in (contender.jobs, PODS))
    meter = Meter({"API server": cluster.apiserver_pid}, cluster.audit_log)
    began = time.monotonic()
    with contender.started(cluster) as process:
        ready = time.monotonic() - began
        settled(process.pid)
        seconds = time.monotonic() - began - 2
        cpu = Meter({"operator": process.pid}, cluster.audit_log)
        spent = cpu._cpu["operator"]
        now, most = rss_mib(process.pid), rss_mib(process.pid, "VmHWM")
    writes = meter.writes(contender.client).total()
    print(f"{contender.name}, cold start beside {jobs} jobs and {pods} Pods:")
    print(f"  ready after {ready:.1f} s, quiet after {seconds:.1f} s, {spent:.1f} CPU s, {writes} writes")
    print(f"  {now:.0f} MiB, {most:.0f} MiB at its peak; API server {meter.cpu('API server'):.1f} CPU s")


def number_of(cluster: Cluster, path: str) -> int:
    """Return how many objects there are in a collection."""
    page = cluster.client.get(f"{path}?limit=1")
    return len(page["items"]) + int(page["metadata"].get("remainingItemCount", 0))


def progress_reports(cluster: Cluster, rounds: int = 10, jobs: int = 20) -> None:
    """Write progress reports into finished jobs as the operator does, and print what one costs the API server."""
    client, found = cluster.client, cluster.client.items(ours().jobs, limit=str(jobs))
    meter = Meter({"API server": cluster.apiserver_pid}, cluster.audit_log)
    for step in range(rounds):
        for number, job in enumerate(found):
            progress = job["status"].get("progress", {}) | {"step": step + 1, "loss": f"{2 - step / 100:.4f}"}
            meta = {key: job["metadata"][key] for key in ("name", "namespace", "uid", "resourceVersion")}
            body = {"apiVersion": job["apiVersion"], "kind": job["kind"], "metadata": meta}
            body["status"] = job["status"] | {"progress": progress}
            path = f"{ours().jobs}/{meta['name']}/status"
            found[number] = client.request("PUT", path, body)
    cost, size = 1000 * meter.cpu("API server") / (rounds * len(found)), len(json.dumps(found[0]))
    print(f"a progress report: {cost:.1f} CPU ms of the API server; the object has {size:,} bytes")


def gang(cluster: Cluster, nodes: int = 64) -> None:
    """Run one job on many nodes, and print how long its Pods take to be created and released."""
    marks = {"created": lambda _: True, "succeeded": phase("Succeeded"), "released": is_released}
    cluster.clear(ours().jobs, *ours().children)
    with Stopwatch(cluster.client, PODS, marks, lambda raw: str(raw["metadata"]["name"])) as pods:
        cluster.client.create(ours().jobs, a_gang("gang", nodes))
        trainers = [f"gang-0-{replica}" for replica in range(nodes)]
        eventually(lambda: all(name in pods.seen["released"] for name in trainers), "all Pods are released", 300)
    began = pods.seen["succeeded"]["gang-preflight-1"]
    created, released = (max(pods.seen[mark][name] for name in trainers) - began for mark in ("created", "released"))
    print(
        f"one job on {nodes} nodes: all Pods created {created:.1f} s and released {released:.1f} s after preflight's end"
    )


def is_released(pod: Raw) -> bool:
    """Tell whether a Pod may be scheduled."""
    return not pod["spec"].get("schedulingGates")


def described(cluster: Cluster) -> None:
    """Print how long `kubectl describe` of a finished job is."""
    name = cluster.client.items(ours().jobs, limit="1")[0]["metadata"]["name"]
    text = cluster.kubectl("describe", "finetunejob", name, f"--namespace={NAMESPACE}")
    print(f"kubectl describe of a finished job: {len(text.splitlines())} lines")
