"""KServe v2, as Triton speaks it over HTTP: passed on to the guarded server unchanged, on the guard's routes."""

from __future__ import annotations

import re

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from protoclip.client.options import make_options
from serving.gateway.bodies import BodyReader
from serving.gateway.errors import answer_refused, invalid, not_found, plain_error, refused
from serving.gateway.headers import first_values
from serving.gateway.openapi import Paths, operation
from serving.gateway.state import Gateway
from serving.gateway.upstream import HeaderList, UpstreamAnswer

OPEN_PATHS = ("/v2/health/live", "/v2/health/ready")
PATTERN = "/v2/{rest:path}"
"""Under which requests are counted."""
_METHODS = ("GET", "HEAD", "POST")
_READ = re.compile(
    rb"/v2/?|/v2/health/(live|ready)|/v2/models/stats"
    rb"|/v2/models/[A-Za-z0-9_.-]{1,256}(/versions/[0-9]{1,9})?(/(ready|config|stats))?"
)
POSTED = re.compile(rb"/v2/repository/index|/v2/models/[A-Za-z0-9_.-]{1,256}(/versions/[0-9]{1,9})?/infer")
TAKEN = (b"content-type", b"inference-header-content-length", b"traceparent")
GIVEN = (b"content-type", b"inference-header-content-length", b"retry-after")
"""Headers that are passed on to the server, and to the client."""


class KServe:
    """/v2 and all below it; what is elsewhere goes on to `app`.

    A layer within the rules of all requests, and no route: KServe's requests are the smallest and the most, and a
    router with its requests and answers takes as long for one as everything else here.
    """

    def __init__(self, app: ASGIApp, *, gateway: Gateway, bodies: BodyReader, address: str) -> None:
        """`address`: the server over HTTP."""
        self.app = app
        self._gateway = gateway
        self._bodies = bodies
        self._address = address
        self._own = own_headers()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not (scope["path"] == "/v2" or scope["path"].startswith("/v2/")):
            await self.app(scope, receive, send)
            return
        scope["endpoint"] = PATTERN
        try:
            answer = await self._pass_on(scope, receive)
        except Exception as error:  # noqa: BLE001 - every one of them is answered and logged
            await answer_refused(scope, refused(error), plain_error)(scope, receive, send)
            return
        headers = [pair for pair in answer.headers if pair[0] in GIVEN]
        headers.append((b"content-length", b"%d" % len(answer.body)))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    async def _pass_on(self, scope: Scope, receive: Receive) -> UpstreamAnswer:
        path: bytes = scope["raw_path"]
        posted = scope["method"] == "POST"
        _check(scope, path, POSTED if posted else _READ)
        settings = self._gateway.settings
        body = await self._bodies.read(scope, receive, settings.body_bytes) if posted else b""
        given = first_values(scope)
        headers = [*self._own, *((name, given[name]) for name in TAKEN if name in given)]
        # HEAD is GET whose body is not sent: the server itself knows GET alone.
        method = "POST" if posted else "GET"
        return await self._gateway.upstream.pass_on(method, self._address, path, body, headers, settings.timeout_s)


def own_headers() -> HeaderList:
    """The gateway's own token for the server, of the environment; the client's key is not for it."""
    own = make_options(None, None, None, None, None).headers
    return [(name.encode(), value.encode("latin-1")) for name, value in own.items()]


def _check(scope: Scope, path: bytes, known: re.Pattern[bytes]) -> None:
    allowed = _METHODS[:2] if path == b"/v2" else _METHODS
    if scope["method"] not in allowed:
        raise HTTPException(405, headers={"Allow": ", ".join(allowed)})
    if scope["query_string"]:
        raise invalid("a query after the path is not known here: leave it out")
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
