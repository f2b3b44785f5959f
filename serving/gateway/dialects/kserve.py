"""KServe v2, as Triton speaks it over HTTP: passed on to the guarded server unchanged, on the guard's routes."""

from __future__ import annotations

import re

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from protoclip.client.options import make_options
from serving.gateway.bodies import read_body
from serving.gateway.errors import answering, invalid, not_found
from serving.gateway.openapi import Paths, operation
from serving.gateway.state import Gateway

OPEN_PATHS = ("/v2/health/live", "/v2/health/ready")
_READ = re.compile(
    r"/v2/?|/v2/health/(live|ready)|/v2/models/stats"
    r"|/v2/models/[A-Za-z0-9_.-]{1,256}(/versions/[0-9]{1,9})?(/(ready|config|stats))?",
    re.ASCII,
)
_POSTED = re.compile(
    r"/v2/repository/index|/v2/models/[A-Za-z0-9_.-]{1,256}(/versions/[0-9]{1,9})?/infer", re.ASCII
)
_TAKEN = ("content-type", "inference-header-content-length", "traceparent")
_GIVEN = ("content-type", "inference-header-content-length", "retry-after")


def routes(gateway: Gateway) -> list[BaseRoute]:
    """/v2 and all below it; none where the server is not known over HTTP."""
    url = gateway.settings.http_url
    if url is None:
        return []
    # The gateway's own token for the server, of the environment; the client's key is not for it.
    own = make_options(None, None, None, None, None).headers

    async def pass_on(request: Request) -> Response:
        path = request.scope["raw_path"].decode("ascii", "replace")
        _check(request, path)
        body = await read_body(request, gateway.settings.body_bytes) if request.method == "POST" else b""
        headers = {**own, **{name: request.headers[name] for name in _TAKEN if name in request.headers}}
        # HEAD is GET whose body is not sent: the server itself knows GET alone.
        method = "POST" if request.method == "POST" else "GET"
        answer = await gateway.upstream.pass_on(method, url + path, body, headers, gateway.settings.timeout_s)
        given = {name: answer.headers[name] for name in _GIVEN if name in answer.headers}
        return Response(answer.body, answer.status, given)

    endpoint = answering(pass_on)
    return [
        Route("/v2", endpoint, methods=["GET"]),
        Route("/v2/{rest:path}", endpoint, methods=["GET", "POST"]),
    ]


def _check(request: Request, path: str) -> None:
    if request.scope["query_string"]:
        raise invalid("a query after the path is not known here: leave it out")
    known = _POSTED if request.method == "POST" else _READ
    if not known.fullmatch(path):
        message = "not served here: there are /v2/models/MODEL/infer, metadata, health and statistics"
        raise not_found("not_found", message)


def describe(gateway: Gateway) -> Paths:
    """For /openapi.json."""
    if gateway.settings.http_url is None:
        return {}
    answer = "as the server gives it"
    return {
        "/v2/health/ready": {"get": operation("KServe v2: whether the server is ready", answer)},
        "/v2/models/{model}": {"get": operation("KServe v2: metadata of a model", answer, path=("model",))},
        "/v2/models/{model}/infer": {
            "post": operation(
                "KServe v2: inference, in JSON or with binary tensors", answer, path=("model",), body={}
            )
        },
    }
