"""A request that gets no answer: what, where and what to do, for every way in which that happens."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from finetune_operator.cli.kube_link import open_link
from finetune_operator.controller.api import Api, Link
from finetune_operator.controller.connection import connect
from finetune_operator.errors import ClusterUnavailable

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def operators(kubeconfig: str) -> Link:
    """Open the operator's way to the API server."""
    return await connect(kubeconfig)


async def commands(kubeconfig: str) -> Link:
    """Open the way of the commands."""
    link, _ = await open_link(kubeconfig, "")
    return link


async def said(folder: Path, server: str) -> str:
    """Return the message of a request to a server, from the words after its address: the same from both clients."""
    first, second = [await said_by(opened, folder, server) for opened in (operators, commands)]
    assert first.partition(" (")[0] == second.partition(" (")[0]
    return first


async def said_by(opened: Callable[[str], Awaitable[Link]], folder: Path, server: str) -> str:
    """Return what one client says."""
    kubeconfig = folder / "config"
    kubeconfig.write_text(
        json.dumps(
            {
                "apiVersion": "v1", "kind": "Config", "current-context": "x",
                "clusters": [{"name": "c", "cluster": {"server": server}}],
                "users": [{"name": "u", "user": {"token": "t"}}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            }
        )
    )  # fmt: skip
    connection = await opened(str(kubeconfig))
    try:
        with pytest.raises(ClusterUnavailable) as error:
            await Api(connection=connection).request("GET", "/version", seconds=0.5)
    finally:
        await connection.close()
    prefix = f"cannot reach the API server at {server}: "
    assert str(error.value).startswith(prefix)
    return str(error.value).removeprefix(prefix)


@asynccontextmanager
async def a_server(serve: Serve) -> AsyncIterator[str]:
    """Listen on a free port; yield host and port. At the end every connection is closed."""
    handlers: list[asyncio.Task[None] | None] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.append(asyncio.current_task())
        await serve(reader, writer)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    await asyncio.gather(*(handler for handler in handlers if handler))


async def closes(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")


async def says_nothing(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def speaks_plain_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(64)
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")


async def test_nothing_listens(tmp_path: Path):
    """The cluster is down, or it is the wrong kubeconfig."""
    async with a_server(closes) as address:
        pass

    assert await said(tmp_path, f"https://{address}") == (
        "connection refused. Start the cluster, or choose another one with --kubeconfig or --context"
    )


async def test_a_name_that_nobody_knows(tmp_path: Path):
    """.invalid is reserved: no resolver has it."""
    assert await said(tmp_path, "https://api.invalid:6443") == (
        "the host name does not resolve. Check the address in the kubeconfig and your network"
    )


async def test_no_answer_in_time(tmp_path: Path):
    """A firewall that drops packets, or a server that is overloaded."""
    async with a_server(says_nothing) as address:
        assert await said(tmp_path, f"http://{address}") == (
            "no response within 0.5 s. Check the network, firewalls, NetworkPolicies and the load of the API server"
        )


async def test_a_connection_that_is_closed(tmp_path: Path):
    """A load balancer without a server behind it."""
    async with a_server(closes) as address:
        assert await said(tmp_path, f"http://{address}") == (
            "it closed the connection without a response. It may be starting or overloaded"
        )


async def test_a_port_without_tls(tmp_path: Path):
    """The address of some other server."""
    async with a_server(speaks_plain_http) as address:
        words = await said(tmp_path, f"https://{address}")

    assert words.startswith("it does not use TLS (")
    assert words.endswith("). Check the address and port in the kubeconfig")
