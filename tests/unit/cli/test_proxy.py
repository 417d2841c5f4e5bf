"""The way to an API server through an HTTP proxy."""

import asyncio
import base64
from pathlib import Path

import pytest
from finetune_operator.cli.kube_link import open_link
from finetune_operator.controller.api import Api
from finetune_operator.errors import ClusterUnavailable

from tests.unit.cli.test_kube_link import a_server, kubeconfig, shown


async def test_a_proxy(tmp_path: Path):
    """It connects us; its password is in its URL."""
    asked: list[str] = []

    async def connects(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        asked.append(head)
        host, port = head.split()[1].split(":")
        there, here = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        here.write(await reader.readuntil(b"\r\n\r\n"))
        writer.write(await there.read(65536))
        await writer.drain()
        writer.close()
        here.close()

    async with a_server() as server, await asyncio.start_server(connects, "127.0.0.1", 0) as proxy:
        port = proxy.sockets[0].getsockname()[1]
        cluster = {"proxy-url": f"http://ann:secret@127.0.0.1:{port}"}
        found = await shown(kubeconfig(tmp_path, server.address, {"token": "t"}, cluster=cluster), server)

    target = server.address.removeprefix("http://")
    login = base64.b64encode(b"ann:secret").decode()
    assert found == ["Bearer t"]
    assert asked == [f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nProxy-Authorization: Basic {login}\r\n\r\n"]


async def test_a_proxy_that_is_not_there_is_named(tmp_path: Path):
    """Not the API server behind it, which may be well."""
    refused = kubeconfig(tmp_path, "https://api.test:6443", {}, cluster={"proxy-url": "http://ann:secret@127.0.0.1:1"})
    link, _ = await open_link(refused, "")

    with pytest.raises(ClusterUnavailable) as caught:
        await Api(connection=link).get("/a")

    assert str(caught.value) == (
        "cannot reach the proxy 127.0.0.1:1 in front of the API server at https://api.test:6443: connection refused. "
        "Check proxy-url in the kubeconfig and $HTTPS_PROXY; $NO_PROXY lists what is reached without it"
    )
