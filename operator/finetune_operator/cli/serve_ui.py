"""`finetune serve-ui`: the calculator and the jobs as a page in the browser, and the same as JSON."""

import errno
import ipaddress
import os
import socket
import webbrowser
from typing import Annotated

import typer

from finetune_operator.cli.options import Context, Kubeconfig
from finetune_operator.cli.target import find_target, require_target
from finetune_operator.errors import FinetuneError

INSTALL = "the page needs a web server: pip install 'finetune-operator[ui]'"
LOOPBACK = ("127.0.0.1", "localhost")


def command(  # noqa: PLR0913  # each is an option
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen on. On others than the loopback interface jobs are shown with --ask-callers only."
        ),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8765,
    *,
    name: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST", help="Host name by which browsers reach the page through a proxy; repeatable."),
    ] = None,
    calculator: Annotated[bool, typer.Option("--calculator", help="Show no jobs, even if there is a cluster.")] = False,
    callers: Annotated[
        bool,
        typer.Option(
            "--ask-callers",
            help="Read jobs with the bearer token of each caller instead of your credentials. Then jobs are shown on every --host.",
        ),
    ] = False,
    proxy: Annotated[
        list[str] | None,
        typer.Option(
            "--trusted-proxy",
            metavar="CIDR",
            help="Address or range of a proxy whose X-Forwarded-For and X-Forwarded-Proto are believed; repeatable.",
        ),
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    kubeconfig: Kubeconfig = "",
    context: Context = "",
) -> None:
    """Serve a page with a calculator and, on this machine, the jobs of the cluster. Ctrl-C stops it."""
    if calculator and callers:
        raise typer.BadParameter(
            "--calculator shows no jobs, so there is nothing to --ask-callers for: leave out one of them"
        )
    try:
        import uvicorn  # noqa: PLC0415  # of an extra

        from finetune_operator.cli.ui.cluster import Cluster  # noqa: PLC0415
        from finetune_operator.cli.ui.server import application  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise FinetuneError(INSTALL) from error
    private = is_loopback(host)
    target = require_target(kubeconfig) if callers else find_target(kubeconfig) if private and not calculator else None
    # another name could be another site's, which must not read jobs; with a token of their own callers say who they are
    hosts = (*LOOPBACK, *(name or ())) if target and not callers else ("*",)
    app = application(Cluster(target=target, context=context, asks_callers=callers) if target else None, hosts)
    jobs = (
        f"jobs of {target.title}{', each with the token of the caller' if callers else ''}"
        if target
        else "no jobs" + ("" if private else ": other machines can reach this address")
    )
    listener = listen(host, port)  # first: the line below must be true
    print(f"http://{host}:{port} serves the calculator and {jobs}. Press Ctrl-C to stop", flush=True)
    if show:
        webbrowser.open(f"http://{host}:{port}")
    config = uvicorn.Config(
        app, log_level="warning", server_header=False, proxy_headers=bool(proxy), forwarded_allow_ips=proxy or []
    )
    uvicorn.Server(config).run(sockets=[listener])


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens. Raises FinetuneError with what to do."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        found = error.errno or 0
        why = os.strerror(found) if found > 0 else "no such name"  # getaddrinfo's numbers are negative
        remedy = (
            "another --port"
            if error.errno == errno.EADDRINUSE
            else "an address of this machine with --host, or another --port"
        )
        raise FinetuneError(f"cannot listen on {host}, port {port} ({why}): choose {remedy}") from error


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
