"""The web server of `finetune serve-ui`: which address answers what, and who may ask how often and how much."""

import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from anyio import CapacityLimiter, to_thread
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from finetune_operator.cli import models
from finetune_operator.cli.jobs import JobNotFound
from finetune_operator.cli.ui import answers, memory_claims, time_claims
from finetune_operator.cli.ui.callers import token_of
from finetune_operator.cli.ui.cluster import Cluster
from finetune_operator.cli.ui.questions import BadQuestion, from_query
from finetune_operator.errors import ClusterUnavailable, DoesNotFit, FinetuneError, Forbidden, Unauthorized
from finetune_operator.planning.models.catalogue import models as catalogue
from finetune_operator.planning.pools.gpus import GPUS

STATIC = Path(__file__).parent / "static"
MOST_BYTES = 65_536
"""Of a question."""

NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
PER_MINUTE = 60
AT_A_TIME = 2
"""Questions that are computed side by side: each takes up to a second of a CPU."""

STATUSES: tuple[tuple[type[FinetuneError], int], ...] = (
    (JobNotFound, 404), (DoesNotFit, 422), (Forbidden, 403), (Unauthorized, 401), (ClusterUnavailable, 503), (FinetuneError, 400),
)  # fmt: skip

NOTHING_FROM_ELSEWHERE = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
"""For pages: they load nothing from other hosts, and run no script that a job's data might hold."""

Endpoint = Callable[[Request], Awaitable[Response]]


class TooMuch(FinetuneError):
    """A question that is too long."""


def application(cluster: Cluster | None, hosts: tuple[str, ...]) -> Starlette:
    """Return the ASGI application; without a cluster it is the calculator alone. `hosts`: names that it is reached by."""
    own = [
        Route("/", page),
        Route("/healthz", healthz),
        Route("/api/jobs", answering(jobs_of(cluster))),
        Route("/jobs/{namespace}/{name}", answering(report_of(cluster))),
        Mount("/api", calculator()),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    return Starlette(routes=own, middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))])


def calculator() -> Starlette:
    """Return the endpoints that any page may ask from a browser: they know nothing of a cluster."""
    limited = RateLimit()
    routes = [
        Route("/models", answering(facts([models.described(each) for each in catalogue()]))),
        Route("/gpus", answering(facts([asdict(each) for each in GPUS]))),
        Route("/claims", answering(limited.guard(claims))),
        Route("/plan", answering(limited.guard(plan)), methods=["GET", "POST"]),
        Route("/vram", answering(limited.guard(vram)), methods=["POST"]),
    ]
    anyone = Middleware(
        CORSMiddleware,
        allow_origins=["*"],
        allow_methods=["GET", "POST"],
        allow_headers=["Content-Type"],
        max_age=86_400,
    )
    return Starlette(routes=routes, middleware=[anyone])


class RateLimit:
    """So many questions a minute from each address."""

    def __init__(self) -> None:
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._most = RateLimitItemPerMinute(PER_MINUTE)

    def guard(self, endpoint: Endpoint) -> Endpoint:
        """Return an endpoint that answers 429 when it is asked too often."""

        async def guarded(request: Request) -> Response:
            who = request.client.host if request.client else ""
            if not self._limiter.hit(self._most, who):
                said = (
                    f"more than {PER_MINUTE} requests in a minute: try again later, or run `finetune serve-ui` yourself"
                )
                return JSONResponse({"error": said}, status_code=429, headers={"Retry-After": "60"})
            return await endpoint(request)

        return guarded


def answering(endpoint: Endpoint) -> Endpoint:
    """Return an endpoint whose foreseen failures are answers: a status, and JSON with `error`."""

    async def answered(request: Request) -> Response:
        try:
            return await endpoint(request)
        except TooMuch as error:
            return JSONResponse({"error": str(error)}, status_code=413)
        except FinetuneError as error:
            status = next(code for kind, code in STATUSES if isinstance(error, kind))
            return JSONResponse({"error": str(error)}, status_code=status)

    return answered


async def page(_: Request) -> Response:
    """Answer the page itself."""
    return FileResponse(STATIC / "index.html", headers=NOTHING_FROM_ELSEWHERE)


async def healthz(_: Request) -> Response:
    """Answer that the process is there."""
    return PlainTextResponse("ok\n")


def facts(found: list[Any]) -> Endpoint:
    """Return an endpoint that always answers the same."""

    async def answer(_: Request) -> Response:
        return JSONResponse(found)

    return answer


async def plan(request: Request) -> Response:
    """Answer what `finetune plan` would say."""
    asked = from_query(request.query_params) if request.method == "GET" else object_in(await body(request))
    return JSONResponse(await computed(lambda: answers.planned(asked)))


async def vram(request: Request) -> Response:
    """Answer what `finetune vram` would say, for one JSON object a line."""
    text = await body(request)
    return JSONResponse(await computed(lambda: answers.vram(text)))


async def claims(_: Request) -> Response:
    """Answer the claims of popular articles with our figures beside them."""
    return JSONResponse(await computed(lambda: {"memory": memory_claims.rows(), "time": time_claims.rows()}))


def jobs_of(cluster: Cluster | None) -> Endpoint:
    """Return the endpoint of the list of jobs."""

    async def answer(request: Request) -> Response:
        if cluster is None:
            return JSONResponse({"cluster": "", "jobs": [], "use": [], "leftOut": []})
        named = request.query_params.get("namespace", "")
        seen = cluster.seen_by(token_of(request))
        return JSONResponse(await seen.jobs(namespace_of(named) if named else ""))

    return answer


def namespace_of(text: str) -> str:
    """Return a name that a path may have. Raises BadQuestion."""
    if not NAMESPACE.fullmatch(text):
        raise BadQuestion(f"{text!r} is not a valid namespace name")
    return text


def report_of(cluster: Cluster | None) -> Endpoint:
    """Return the endpoint of a job's report."""

    async def answer(request: Request) -> Response:
        if cluster is None:
            raise JobNotFound("this server shows no jobs: it was started without a cluster")
        seen = cluster.seen_by(token_of(request))
        text = await seen.report(namespace_of(request.path_params["namespace"]), request.path_params["name"])
        return HTMLResponse(text, headers=NOTHING_FROM_ELSEWHERE)

    return answer


async def body(request: Request) -> str:
    """Return the text of a question. Raises TooMuch, BadQuestion."""
    read = b""
    async for part in request.stream():
        read += part
        if len(read) > MOST_BYTES:
            raise TooMuch(f"a request may have at most {MOST_BYTES:,} bytes")
    try:
        return read.decode()
    except UnicodeDecodeError as error:
        raise BadQuestion(f"the question is not UTF-8 (byte {error.start})") from error


def object_in(text: str) -> dict[str, Any]:
    """Return the JSON object of a text. Raises BadQuestion."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadQuestion(f"the question is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise BadQuestion('the question must be a JSON object, such as {"model": "Qwen/Qwen2.5-7B"}')
    return found


COMPUTING = CapacityLimiter(AT_A_TIME)


async def computed(work: Callable[[], Any]) -> Any:
    """Return what a computation gives, beside other requests and a few at a time."""
    return await to_thread.run_sync(work, limiter=COMPUTING)
