"""How the commands reach an API server: every way in which a kubeconfig says who we are, without the client library."""

import base64
import json
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from finetune_operator import __version__
from finetune_operator.cli.kube_link import KubeLink, open_link
from finetune_operator.cli.kubeconfig import context_of_pod, read_kubeconfig
from finetune_operator.controller.api import Api
from finetune_operator.controller.connection import Connection
from finetune_operator.errors import ClusterUnavailable

Raw = dict[str, Any]


class Server:
    """Answers with an empty object, and remembers what it was shown."""

    def __init__(self) -> None:
        self.shown: list[str] = []
        self.agents: set[str] = set()
        self.refuses: set[str] = set()
        self.address = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        self.shown.append(request.headers.get("Authorization", ""))
        self.agents.add(request.headers["User-Agent"])
        if self.shown[-1] in self.refuses:
            return web.json_response({"message": "Unauthorized"}, status=401)
        return web.json_response({"path": request.path_qs, "body": (await request.read()).decode()})


@asynccontextmanager
async def a_server() -> AsyncIterator[Server]:
    """Serve on a free port."""
    server, app = Server(), web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.address = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()


def kubeconfig(folder: Path, server: str, user: Raw, *, name: str = "config", cluster: Raw | None = None) -> str:
    """Write a kubeconfig as people have it."""
    path = folder / name
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1", "kind": "Config", "current-context": "work",
                "clusters": [{"name": "c", "cluster": {"server": server, **(cluster or {})}}],
                "users": [{"name": "u", "user": user}],
                "contexts": [{"name": "work", "context": {"cluster": "c", "user": "u", "namespace": "team-a"}}],
            }
        )
    )  # fmt: skip
    return str(path)


def a_command(folder: Path, *lines: str) -> str:
    """Write a program and return its path."""
    path = folder / "login"
    path.write_text("\n".join(("#!/bin/sh", *lines, "")))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def a_login(command: str, **more: Any) -> Raw:
    """Return a user whose credentials a command knows."""
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": command, **more}}


A_CONTEXT = "contexts: [{name: a, context: {cluster: x}}]"
CREDENTIAL = '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "%s"}}'


async def shown(config: str, server: Server, *, times: int = 1) -> list[str]:
    """Return what a server is shown by reads with a kubeconfig."""
    link, _ = await open_link(config, "")
    for _ in range(times):
        (await Api(connection=link).get("/version")).expect(200)
    await link.close()
    return server.shown


async def test_a_token(tmp_path: Path):
    """In the kubeconfig, or in a file beside it."""
    (tmp_path / "token").write_text("from-a-file\n")
    async with a_server() as server:
        await shown(kubeconfig(tmp_path, server.address, {"token": "t"}), server)
        await shown(kubeconfig(tmp_path, server.address, {"tokenFile": "token"}), server)

    assert (server.shown, server.agents) == (["Bearer t", "Bearer from-a-file"], {f"finetune/{__version__}"})


async def test_a_password(tmp_path: Path):
    """Some API servers stand behind a proxy that asks for one."""
    async with a_server() as server:
        found = await shown(kubeconfig(tmp_path, server.address, {"username": "ann", "password": "x:y"}), server)

    assert found == ["Basic " + base64.b64encode(b"ann:x:y").decode()]


async def test_a_login_command(tmp_path: Path):
    """It gets its arguments, its environment, and what kubectl tells it about the cluster."""
    command = a_command(
        tmp_path, f'echo "$1 $TEAM $KUBERNETES_EXEC_INFO" > {tmp_path}/told', f"echo '{CREDENTIAL % 'given'}'"
    )
    user = a_login(command, args=["get-token"], env=[{"name": "TEAM", "value": "a"}], provideClusterInfo=True)
    async with a_server() as server:
        found = await shown(kubeconfig(tmp_path, server.address, user), server)

    words = (tmp_path / "told").read_text().strip().split(" ", 2)
    assert (found, words[:2]) == (["Bearer given"], ["get-token", "a"])
    assert json.loads(words[2]) == {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "spec": {"interactive": False, "cluster": {"server": server.address, "config": None}},
    }


async def test_a_login_command_beside_the_kubeconfig(tmp_path: Path):
    """A relative path starts at the kubeconfig, as for kubectl."""
    a_command(tmp_path, f"echo '{CREDENTIAL % 'given'}'")
    async with a_server() as server:
        assert await shown(kubeconfig(tmp_path, server.address, a_login("./login")), server) == ["Bearer given"]


async def test_a_token_that_expires_while_a_command_runs(tmp_path: Path):
    """`finetune watch` runs for hours: who we are is asked again, once."""
    command = a_command(
        tmp_path,
        f"echo again >> {tmp_path}/runs",
        f"echo '{CREDENTIAL % 'tN'}' | sed s/tN/t$(wc -l < {tmp_path}/runs)/",
    )
    async with a_server() as server:
        server.refuses = {"Bearer t1"}
        found = await shown(kubeconfig(tmp_path, server.address, a_login(command)), server, times=2)

    assert found == ["Bearer t1", "Bearer t2", "Bearer t2"]


@pytest.mark.parametrize(
    ("lines", "more", "words"),
    [
        (["exit 3"], {}, "failed with exit code 3"),
        (["echo hello"], {}, "did not print an ExecCredential with a status"),
        (["echo '{\"status\": {}}'"], {}, "returned neither a token nor a certificate with its key"),
        (
            [],
            {"command": "aws-iam", "installHint": "Install it:\n see the wiki."},
            "cannot be run: No such file or directory. Install it: see the wiki.",
        ),
    ],
)
async def test_a_login_command_that_fails(tmp_path: Path, lines: list[str], more: Raw, words: str):
    """The API server would only say that nobody asked."""
    user = a_login(a_command(tmp_path, *lines)) if lines else a_login(**more)
    config = kubeconfig(tmp_path, "http://127.0.0.1:1", user)

    with pytest.raises(ClusterUnavailable) as error:
        await open_link(config, "")

    assert str(error.value) == (
        f"kubeconfig {config} cannot be used: context work: its login command {user['exec']['command']} {words}; "
        "set another one with --kubeconfig"
    )


async def test_several_files(tmp_path: Path):
    """Joined with colons: of two entries with one name the first counts, and files that are not there do not."""
    async with a_server() as server:
        first = kubeconfig(tmp_path, server.address, {"token": "first"}, name="one")
        second = kubeconfig(tmp_path, "http://127.0.0.1:1", {"token": "second"}, name="two")
        found = await shown(f"{tmp_path}/none:{first}:{second}", server)

    assert found == ["Bearer first"]


@pytest.mark.parametrize(
    ("text", "context", "words"),
    [
        ("[", "", "{} is not a kubeconfig"),
        ("- a", "", "{} is not a kubeconfig"),
        (A_CONTEXT, "", "kubeconfig {} cannot be used: it has no current-context; choose one of a with --context"),
        (A_CONTEXT, "b", "kubeconfig {} cannot be used: it has no context b, only a"),
        (A_CONTEXT, "a", "kubeconfig {} cannot be used: context a names no cluster with a server"),
    ],
)
def test_a_broken_kubeconfig(tmp_path: Path, text: str, context: str, words: str):
    """What is wrong with it, and what to do."""
    path = tmp_path / "config"
    path.write_text(text)

    with pytest.raises(ClusterUnavailable) as error:
        read_kubeconfig(str(path)).context(context)

    assert str(error.value) == f"{words.format(path)}; set another one with --kubeconfig"


async def test_what_is_rare_goes_through_the_client_library(tmp_path: Path):
    """An auth-provider: kubectl has dropped them, and a few kubeconfigs still have one."""
    claims = base64.b64encode(b'{"exp": 4102444800}').decode().rstrip("=")
    oidc = {"auth-provider": {"name": "oidc", "config": {"id-token": f"a.{claims}.c"}}}
    async with a_server() as server:
        config = kubeconfig(tmp_path, server.address, oidc)
        link, namespace = await open_link(config, "")
        assert (type(link), namespace) == (Connection, "team-a")
        await link.close()

        assert await shown(config, server) == [f"Bearer a.{claims}.c"]


async def test_a_write_has_a_connection_of_its_own(tmp_path: Path):
    """An idle connection may be closed by the server as we write, and a job may not be created twice."""
    async with a_server() as server:
        link, _ = await open_link(kubeconfig(tmp_path, server.address, {"token": "t"}), "")
        assert isinstance(link, KubeLink)
        answers = [
            await Api(connection=link).get("/a", {"b": "c d"}),
            await Api(connection=link).request("POST", "/e", body={"f": 1}),
        ]
        await link.close()

    assert [one.body for one in answers] == [{"path": "/a?b=c+d", "body": ""}, {"path": "/e", "body": '{"f": 1}'}]


def test_a_command_loads_neither_client_library(tmp_path: Path):
    """kubernetes and aiohttp take longer to load than a command may take to its first line."""
    config = kubeconfig(tmp_path, "http://127.0.0.1:1", {"token": "t"})
    loads = (
        "import sys; from finetune_operator.cli.getting import show_all; from finetune_operator.cli.kube_link import read_kubeconfig; "
        f"read_kubeconfig({config!r}); print(sorted({{'kubernetes', 'aiohttp', 'prometheus_client', 'requests'}} & sys.modules.keys()))"
    )
    ran = subprocess.run([sys.executable, "-c", loads], capture_output=True, text=True, check=True)

    assert ran.stdout == "[]\n"


def test_a_pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The API server of its environment, with the ServiceAccount where a token is mounted."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "6443")
    (tmp_path / "ca.crt").write_text("")
    bare = context_of_pod(tmp_path)
    (tmp_path / "token").write_text("t")
    (tmp_path / "namespace").write_text("team-a")
    whole = context_of_pod(tmp_path)

    assert (bare.cluster.value["server"], bare.cluster.path("certificate-authority")) == (
        "https://[fd00::1]:6443",
        str(tmp_path / "ca.crt"),
    )
    assert (bare.user.value, bare.namespace) == ({}, "default")
    assert (whole.user.path("tokenFile"), whole.namespace) == (str(tmp_path / "token"), "team-a")
