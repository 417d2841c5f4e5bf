"""The process node: `python -m finetune_operator.local.node STATE`. Started by control_plane, ended by SIGTERM."""

import asyncio
import logging
import signal
import sys
from pathlib import Path

from finetune_operator.local.node.addresses import Addresses
from finetune_operator.local.node.claims import Claims
from finetune_operator.local.node.kube import Kube, session
from finetune_operator.local.node.logs import serve_logs
from finetune_operator.local.node.pods import Pods
from finetune_operator.local.node.registrar import Registrar
from finetune_operator.local.ports import Settings
from finetune_operator.local.state import ClusterState, read_json


async def serve(state: ClusterState) -> None:
    """Be the cluster's Nodes until SIGTERM or SIGINT; the processes of Pods run on."""
    ports = Settings(**read_json(state.settings))
    stopped = asyncio.Event()

    async def until_stopped() -> None:
        await stopped.wait()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with session(state.root / "node.conf") as http:
        kube = Kube(http)
        registrar = Registrar(kube, state, ports.kubelet)
        pods = Pods(kube, state, registrar, Addresses(state.root / "addresses.json", ports.network))
        server = await serve_logs(state, ports.kubelet, pods.container)
        await registrar.begin()
        loops = (pods.follow(), registrar.follow_pools(), registrar.beat(), Claims(kube, state).follow())
        tasks = [asyncio.create_task(loop) for loop in loops]
        tasks.append(asyncio.create_task(until_stopped()))
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.cleanup()
    for task in done:
        task.result()  # a loop that ended by an error takes the node down, with a traceback in its log


def main(state: ClusterState) -> None:
    """Run until told to stop."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    asyncio.run(serve(state))


if __name__ == "__main__":
    main(ClusterState(Path(sys.argv[1])))
