"""Who we say that we are, and the way to the API server."""

import json
from pathlib import Path

import pytest
from aiohttp import web
from finetune_operator import __version__
from finetune_operator.controller.api import Api
from finetune_operator.controller.connection import connect
from finetune_operator.controller.proxies import checked_proxy, environment_proxy
from finetune_operator.errors import ClusterUnavailable

from tests.unit.controller.scripted import served


async def test_every_request_bears_the_operators_name(tmp_path: Path):
    """The API server notes its first word as the manager of the fields that we write."""
    heard: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        heard.append(request.headers["User-Agent"])
        return web.json_response({})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with served(app) as there:
        cluster = {"name": "c", "cluster": {"server": there.configuration.host}}
        context = {"name": "x", "context": {"cluster": "c", "user": "u"}}
        user = {"name": "u", "user": {"token": "t"}}
        config = {"current-context": "x", "clusters": [cluster], "contexts": [context], "users": [user]}
        (tmp_path / "config").write_text(json.dumps(config))
        connection = await connect(str(tmp_path / "config"))
        await Api(connection=connection).write("PUT", "/apis/finetune.dev/v1alpha1/namespaces/a/finetunejobs/b", {})
        await connection.close()

    assert heard == [f"finetune-operator/{__version__}"]


PROXY = {"HTTPS_PROXY": "http://proxy:3128"}


@pytest.mark.parametrize(
    ("address", "environment", "proxy"),
    [
        ("https://api.cluster.internal:6443", PROXY, "http://proxy:3128"),
        ("https://api.cluster.internal:6443", {"HTTPS_PROXY": "proxy:3128"}, "http://proxy:3128"),
        ("https://api.cluster.internal:6443", PROXY | {"NO_PROXY": ".internal,10.0.0.1"}, ""),
        ("https://api.cluster.internal:6443", PROXY | {"NO_PROXY": "cluster.internal:6443"}, ""),
        ("https://api.cluster.internal:6443", {"HTTP_PROXY": "http://proxy:3128"}, ""),
        ("https://api.cluster.internal:6443", {}, ""),
        ("https://10.1.2.3:6443", PROXY | {"NO_PROXY": "localhost, 10.0.0.0/8"}, ""),
        ("https://11.1.2.3:6443", PROXY | {"NO_PROXY": "localhost, 10.0.0.0/8, ::/0"}, "http://proxy:3128"),
        ("https://[fd00::7]:6443", PROXY | {"NO_PROXY": "fd00::/8"}, ""),
        ("https://127.0.0.1:6443", PROXY, ""),
        ("https://localhost:6443", PROXY, ""),
        ("https://[::1]:6443", PROXY, ""),
    ],
)
def test_the_environments_proxy_is_used_as_kubectl_uses_it(
    address: str, environment: dict[str, str], proxy: str, monkeypatch: pytest.MonkeyPatch
):
    """Not for hosts, ports and networks that it excepts, and never for this machine: a local cluster is behind no proxy."""
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert environment_proxy(address) == proxy


@pytest.mark.parametrize(
    ("proxy", "shown"),
    [
        ("socks5://ann:secret@127.0.0.1:1080", "socks5://127.0.0.1:1080"),
        ("http://", "http://"),
        ("http://ann:secret@proxy:port", "http://proxy:port"),
        ("http://ann:secret@[::1", "http://[::1"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_refused(proxy: str, shown: str):
    """Windows writes socks:// into the environment; a password stays out of logs."""
    with pytest.raises(ClusterUnavailable) as caught:
        checked_proxy(proxy)

    assert str(caught.value) == (
        f"the proxy {shown} cannot be used: it must be http://HOST:PORT or https://HOST:PORT, not SOCKS. "
        "Set another proxy-url in the kubeconfig or another $HTTPS_PROXY, or name the API server in $NO_PROXY"
    )
