"""Who we say that we are, and the way to the API server."""

import json
from pathlib import Path

import pytest
from aiohttp import web
from finetune_operator import __version__
from finetune_operator.controller.api import Api
from finetune_operator.controller.connection import connect, proxy_for

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


@pytest.mark.parametrize(
    ("environment", "proxy"),
    [
        ({"HTTPS_PROXY": "http://proxy:3128"}, "http://proxy:3128"),
        ({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": ".internal,10.0.0.1"}, None),
        ({"HTTP_PROXY": "http://proxy:3128"}, None),
        ({}, None),
    ],
)
def test_the_environments_proxy_is_used(
    environment: dict[str, str], proxy: str | None, monkeypatch: pytest.MonkeyPatch
):
    """And not for hosts that it excepts, as for every other program."""
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert proxy_for("https://api.cluster.internal:6443") == proxy
