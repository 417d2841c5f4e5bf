"""`finetune pools discover`: GPUPool manifests for the nodes of a cluster, to read, complete and apply."""

import asyncio
import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from finetune_operator.cli.manifest_file import read_manifests, title_of
from finetune_operator.cli.options import Context, Kubeconfig
from finetune_operator.cli.plan_pools import PRICE_SOURCE, ROWS
from finetune_operator.cli.pools_text import pools_text
from finetune_operator.cli.target import require_target
from finetune_operator.errors import FinetuneError
from finetune_operator.planning.pools.discovery import Discovery, Prices, discover
from finetune_operator.planning.pools.nodes import SeenNode, Taint

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

GIB = 2**30
PRICE = re.compile(r"^(?P<name>[^=]+)=(?P<usd>(0|[1-9][0-9]*)(\.[0-9]+)?)$")
LISTED = {(gpu_type, capacity): price for _, gpu_type, _, _, price, capacity, _, _ in ROWS}

Raw = dict[str, Any]


@app.callback()
def frame() -> None:
    """Generate GPUPools from the nodes of a cluster."""


@app.command("discover", short_help="Print a GPUPool for each kind of GPU node.")
def command(
    nodes: Annotated[
        Path | None,
        typer.Option(
            "--nodes",
            help="File with the output of `kubectl get nodes -o yaml` (or json), instead of a cluster; - for standard input.",
        ),
    ] = None,
    price: Annotated[
        list[str] | None,
        typer.Option("--price", metavar="NAME=USD", help="Price per GPU-hour of a pool or GPU type; repeatable."),
    ] = None,
    kubeconfig: Kubeconfig = "",
    context: Context = "",
) -> None:
    """Print a GPUPool for each kind of GPU node, to review, complete and apply. Warnings go to stderr."""
    prices = Prices(given=dict(_price(each) for each in price or ()), listed=LISTED, source=PRICE_SOURCE)
    raw = _from_file(nodes) if nodes else asyncio.run(_from_cluster(kubeconfig, context))
    found = discover([seen_node(node) for node in raw], prices)
    for remark in found.remarks:
        print(f"finetune: {remark}", file=sys.stderr)
    _require_pools(found, len(raw))
    print(pools_text(found.proposals), end="")


def seen_node(raw: Raw) -> SeenNode:
    """Return what matters of a Node object."""
    from kubernetes.utils.quantity import parse_quantity  # noqa: PLC0415  # slow to load

    status = raw.get("status") or {}
    offered, capacity = status.get("allocatable") or {}, status.get("capacity") or {}
    return SeenNode(
        name=raw["metadata"]["name"],
        labels=raw["metadata"].get("labels") or {},
        taints=tuple(
            Taint(key=taint["key"], value=taint.get("value") or "", effect=taint.get("effect") or "")
            for taint in (raw.get("spec") or {}).get("taints") or ()
        ),
        cpus=float(parse_quantity(offered.get("cpu", 0))),
        memory_gib=float(parse_quantity(offered.get("memory", 0))) / GIB,
        ephemeral_gib=float(parse_quantity(offered.get("ephemeral-storage", 0))) / GIB,
        gpus={name: int(parse_quantity(count)) for name, count in capacity.items() if name.startswith("nvidia.com/")},
    )


def _price(text: str) -> tuple[str, str]:
    match = PRICE.match(text)
    if match is None:
        raise FinetuneError(f"--price {text} is not NAME=USD, such as NVIDIA-L4=0.70")
    return match["name"], match["usd"]


def _from_file(path: Path) -> list[Raw]:
    """Return the Nodes of a file."""
    found = [item for item in read_manifests(path) if item.get("kind") == "Node"]
    if not found:
        raise FinetuneError(f"{title_of(path)} contains no Nodes: use the output of `kubectl get nodes -o yaml`")
    if not all((node.get("metadata") or {}).get("name") for node in found):
        raise FinetuneError(
            f"{title_of(path)} contains a Node without metadata.name: use the output of `kubectl get nodes -o yaml`"
        )
    return found


async def _from_cluster(kubeconfig: str, context: str) -> list[Raw]:
    """Return the Nodes of a cluster."""
    from finetune_operator.cli.jobs import jobs_of  # noqa: PLC0415  # help needs no client

    async with jobs_of(require_target(kubeconfig), context, "") as jobs:
        found, _ = await jobs.api.list("/api/v1/nodes")
    return found


def _require_pools(found: Discovery, nodes: int) -> None:
    if not found.proposals:
        raise FinetuneError(
            f"none of the {nodes} nodes has NVIDIA GPUs for a pool. Nodes that an autoscaler has not started yet are not"
            " visible: docs/gpu-pools.md has example manifests for them"
        )
