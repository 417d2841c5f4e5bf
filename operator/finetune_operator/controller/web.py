"""What a kubelet and Prometheus ask: /healthz, /readyz, /metrics. Started by process where a port is set."""

from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from finetune_operator.controller.metrics import exposition


@dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    """Questions about the process; an empty answer is a good one."""

    alive: Callable[[], str]
    """Why a restart would help."""
    ready: Callable[[], str]
    """Why it is not working yet."""


def verdict(problem: str) -> web.Response:
    """Return 200 or 500 with the reason."""
    return web.Response(status=500 if problem else 200, text=f"{problem or 'ok'}\n")


async def serve(checks: Checks, host: str, port: int) -> web.AppRunner:
    """Answer until the returned runner is cleaned up."""

    async def healthz(_: web.Request) -> web.Response:
        return verdict(checks.alive())

    async def readyz(_: web.Request) -> web.Response:
        return verdict(checks.ready())

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=exposition(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=0.5, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    return runner
