"""How to reach the API server: kubeconfig or ServiceAccount, for our client and for kopf. Called by process and cli."""

import os
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration
from yaml import YAMLError

from finetune_operator import __version__
from finetune_operator.controller import metrics
from finetune_operator.controller.api import CONNECT_SECONDS, Answer, Reply, failure, resource_of
from finetune_operator.controller.proxies import checked_proxy, environment_proxy
from finetune_operator.controller.unreachable import unreached
from finetune_operator.errors import ClusterUnavailable

USER_AGENT = f"finetune-operator/{__version__}"
"""Its first word is the field manager that the API server notes with each of our writes."""

MOST_REQUESTS = 64
"""Requests at the same time; more of them wait."""

IDLE_SECONDS = 60.0
"""How long a connection without a request is kept: a TLS handshake costs as much as a request. API servers close after 90 s."""

READ_BYTES = 2**21
"""What is read ahead of an answer. A line of a watch holds an object, which may have 1.5 MB."""

DEFAULT_KUBECONFIG = Path("~/.kube/config")


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """One API server and our identity there. `reload` reads rotated credentials."""

    configuration: Configuration
    client: ApiClient
    """Knows our credentials; requests do not go through it, which would cost as much again."""
    requests: aiohttp.ClientSession
    streams: aiohttp.ClientSession
    """For answers that take long: none of them is to keep requests waiting for a connection."""
    kubeconfig: str
    context: str

    @property
    def token(self) -> str:
        """The bearer token without its scheme; empty where a client certificate is used."""
        return self.configuration.api_key.get("BearerToken", "").split(" ")[-1]  # type: ignore[no-any-return]

    async def reload(self) -> None:
        """Read kubeconfig or ServiceAccount token again: both may have been rotated."""
        await load_into(self.configuration, self.kubeconfig, self.context)

    async def send(self, method: str, path: str, body: Any, content_type: str, seconds: float) -> Reply:
        """Send one request. Raises ClusterUnavailable when no answer comes; every answer is returned."""
        limit = aiohttp.ClientTimeout(total=seconds, sock_connect=CONNECT_SECONDS)
        try:
            response = await self._ask(self.requests, method, path, body, content_type, limit)
            content = await response.read()
        except config.ConfigException as error:
            raise ClusterUnavailable(f"the credentials could not be read: {error}") from error
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            metrics.REQUESTS.labels(method, resource_of(path), "none").inc()
            raise self._unreached(error, seconds) from error
        metrics.REQUESTS.labels(method, resource_of(path), str(response.status)).inc()
        return Reply(status=response.status, content=content, date=response.headers.get("Date", ""))

    async def lines(self, path: str) -> AsyncGenerator[str, None]:
        """Yield the lines of an answer as they arrive, for as long as it takes. Raises what the status asks for."""
        limit = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
        try:
            async with await self._ask(self.streams, "GET", path, None, "application/json", limit) as response:
                if response.status != 200:
                    raise failure(Answer(status=response.status, content=await response.read()))
                async for line in response.content:
                    yield line.decode(errors="replace").rstrip("\n")
        except config.ConfigException as error:
            raise ClusterUnavailable(f"the credentials could not be read: {error}") from error
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._unreached(error, CONNECT_SECONDS) from error

    async def close(self) -> None:
        """Close what is open."""
        for each in (self.client, self.requests, self.streams):
            await each.close()

    async def _ask(  # what a request is
        self,
        session: aiohttp.ClientSession,
        method: str,
        path: str,
        body: Any,
        content_type: str,
        limit: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        headers = {"Content-Type": content_type, "Accept": "application/json, */*"}
        # may read a new token
        await self.client.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        return await session.request(
            method,
            self.configuration.host + path,
            data=None if body is None else orjson.dumps(body),
            headers=headers,
            timeout=limit,
            proxy=self.configuration.proxy,
            proxy_headers=self.configuration.proxy_headers,
            server_hostname=self.configuration.tls_server_name,
        )

    def _unreached(self, error: Exception, seconds: float) -> ClusterUnavailable:
        cause = EOFError() if isinstance(error, aiohttp.ServerDisconnectedError) else error
        return ClusterUnavailable(
            unreached(self.configuration.host, cause, seconds, proxy=self.configuration.proxy or "")
        )


async def connect(kubeconfig: str = "", context: str = "") -> Connection:
    """Return a connection; nothing is sent yet. Raises ClusterUnavailable saying which file is missing or broken."""
    configuration = Configuration()
    path = kubeconfig or default_kubeconfig()
    await load_into(configuration, path, context)
    configuration.proxy = checked_proxy(configuration.proxy or environment_proxy(configuration.host)) or None
    return connection_to(configuration, kubeconfig=path, context=context)


def connection_to(configuration: Configuration, *, kubeconfig: str, context: str) -> Connection:
    """Return a connection by what was read. The environment's proxy is in it: aiohttp would read it with each request."""
    client = ApiClient(configuration)
    return Connection(
        configuration=configuration,
        client=client,
        requests=a_session(client, connections=MOST_REQUESTS),
        streams=a_session(client, connections=0),
        kubeconfig=kubeconfig,
        context=context,
    )


def a_session(client: ApiClient, *, connections: int) -> aiohttp.ClientSession:
    """Return what sends requests, over so many connections at most; 0: as many as it takes."""
    connector = aiohttp.TCPConnector(
        ssl=client.rest_client.ssl_context, limit=connections, keepalive_timeout=IDLE_SECONDS
    )
    return aiohttp.ClientSession(
        connector=connector, read_bufsize=READ_BYTES, trust_env=False, headers={"User-Agent": USER_AGENT}
    )


def in_cluster() -> bool:
    """Tell whether this process runs in a Pod."""
    return "KUBERNETES_SERVICE_HOST" in os.environ


def default_kubeconfig() -> str:
    """Return $KUBECONFIG or the default path; empty inside a Pod that sets neither."""
    if path := os.environ.get("KUBECONFIG"):
        return path
    return "" if in_cluster() else str(DEFAULT_KUBECONFIG.expanduser())


def _exists(kubeconfig: str) -> bool:
    """Like $KUBECONFIG, several files are joined with colons; one that is there is enough."""
    return any(Path(one).expanduser().exists() for one in kubeconfig.split(os.pathsep))


async def load_into(configuration: Configuration, kubeconfig: str, context: str) -> None:
    """Fill in address and credentials."""
    if kubeconfig and not _exists(kubeconfig):
        raise ClusterUnavailable(f"kubeconfig {kubeconfig} not found: set --kubeconfig or $KUBECONFIG")
    try:
        if kubeconfig:
            await config.load_kube_config(kubeconfig, context or None, configuration, persist_config=False)
        else:
            config.load_incluster_config(configuration)
    except (TypeError, AttributeError) as error:  # the library takes whatever it reads for a kubeconfig
        raise ClusterUnavailable(f"{kubeconfig} is not a kubeconfig; set another one with --kubeconfig") from error
    except (config.ConfigException, OSError, ValueError, KeyError, YAMLError) as error:
        where = f"kubeconfig {kubeconfig}" if kubeconfig else "the Pod's ServiceAccount"
        raise ClusterUnavailable(f"{where} cannot be used: {error}; set another one with --kubeconfig") from error
