"""What a request is refused with: the one place that gives every error a status.

400 what was sent · 401 key · 404 model, index, entry · 405, 408, 413, 415 as in HTTP · 429 too much at once ·
499 the client has gone · 500 a fault of ours · 502 the server does not let the gateway in, or answers none ·
503 it is away · 504 it is too slow. No message holds an address, a path of this machine, or a traceback; `detail`
does, for the log.
"""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Scope

from protoclip.client.errors import (
    Busy,
    CallCancelled,
    DeadlineExceeded,
    ModelNotFound,
    NotAuthorized,
    Unavailable,
)
from protoclip.client.errors import Refused as RefusedByServer
from protoclip.contract.errors import (
    ConfigError,
    DataError,
    IndexBusyError,
    IndexFileError,
    ItemError,
    ModelError,
    ProtoclipError,
    ServerError,
    StoreRefused,
    StoreUnavailable,
)

RETRY_S = 2
"""When a client may come again that found the server away and was told no time."""
MAX_MESSAGE = 1000
"""Characters of a message: it may quote what was sent."""
Render: TypeAlias = "Callable[[Refused], Response]"
Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]


class Refused(Exception):
    """A request is answered with an error.

    Attributes:
        status: of HTTP.
        code: for programs, such as `invalid_input`.
        message: for people, in one line; shown to the client.
        retry_after_s: whole seconds for the header Retry-After; None for none.
        headers: others that the answer has.
        detail: for the log alone; "" where the message says all.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        retry_after_s: int | None = None,
        headers: Mapping[str, str] | None = None,
        detail: str = "",
    ) -> None:
        message = message if len(message) <= MAX_MESSAGE else f"{message[:MAX_MESSAGE]}…"
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after_s = retry_after_s
        self.headers = headers or {}
        self.detail = detail


def invalid(message: str) -> Refused:
    """The refusal of what a client sent."""
    return Refused(400, "invalid_input", message)


def not_found(code: str, message: str) -> Refused:
    """The refusal for a `code` such as `index_not_found`."""
    return Refused(404, code, message)


def refused(error: Exception) -> Refused:
    """The refusal that stands for `error`, whatever it is."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, HTTPException):
        return _of_http(error)
    if isinstance(error, StoreUnavailable | StoreRefused):
        return _of_store(error)
    if isinstance(error, ServerError):
        return _of_server(error)
    if isinstance(error, ProtoclipError):
        return _of_ours(error)
    if isinstance(error, ClientDisconnect):
        return Refused(499, "client_gone", "the client has gone")
    if isinstance(error, TimeoutError):
        return Refused(504, "timeout", "no answer in time: send less at once, or come again")
    detail = f"{type(error).__name__}: {error}"
    return Refused(500, "internal_error", "a fault of the gateway: its log has the details", detail=detail)


def _of_server(error: ServerError) -> Refused:
    detail = str(error)
    if isinstance(error, RefusedByServer):
        return Refused(400, "invalid_input", error.reason, detail=detail)
    if isinstance(error, ModelNotFound):
        return Refused(404, "model_not_found", "the model is not served, or not yet", detail=detail)
    if isinstance(error, Busy):
        message = "the server takes no more requests now: come again, or send less at once"
        return Refused(429, "busy", message, retry_after_s=_seconds(error), detail=detail)
    if isinstance(error, Unavailable):
        message = "the server is away or starting: come again"
        return Refused(503, "unavailable", message, retry_after_s=_seconds(error), detail=detail)
    if isinstance(error, DeadlineExceeded):
        return Refused(504, "timeout", "no answer in time: send less at once, or come again", detail=detail)
    if isinstance(error, NotAuthorized):
        message = "the server does not let the gateway in: its operator has to give it another token"
        return Refused(502, "server_refused", message, detail=detail)
    if isinstance(error, CallCancelled):
        return Refused(503, "cancelled", "the request was cancelled", retry_after_s=RETRY_S, detail=detail)
    return Refused(502, "bad_answer", "the server gave an answer that is none", detail=detail)


def _of_store(error: StoreUnavailable | StoreRefused) -> Refused:
    detail = str(error)
    if isinstance(error, StoreUnavailable):
        message = "what holds the index is away or starting: come again"
        return Refused(503, "index_unavailable", message, retry_after_s=RETRY_S, detail=detail)
    message = "what holds the index does not let the gateway in: its operator has to give it the right to read it"
    return Refused(503, "index_unavailable", message, detail=detail)


def _of_ours(error: ProtoclipError) -> Refused:
    detail = str(error)
    if isinstance(error, ItemError | ConfigError | DataError):
        return Refused(400, "invalid_input", detail)
    if isinstance(error, IndexBusyError):
        message = "the index is being written: come again"
        return Refused(503, "index_busy", message, retry_after_s=RETRY_S, detail=detail)
    if isinstance(error, IndexFileError):
        message = (
            "the index can't be used: its operator must serve its model, move it by `protoclip index migrate`, "
            "or build it again"
        )
        return Refused(503, "index_unavailable", message, detail=detail)
    if isinstance(error, ModelError):
        message = "a file of the gateway can't be used: its log has the details"
        return Refused(503, "unavailable", message, detail=detail)
    return Refused(500, "internal_error", "a fault of the gateway: its log has the details", detail=detail)


def _of_http(error: HTTPException) -> Refused:
    codes = {404: "not_found", 405: "method_not_allowed"}
    messages = {404: "there is nothing at this address: /docs lists all there is", 405: "another method is needed"}
    code = codes.get(error.status_code, "invalid_input" if error.status_code < 500 else "internal_error")
    message = messages.get(error.status_code, str(error.detail))
    return Refused(error.status_code, code, message, headers=error.headers)


def _seconds(error: Unavailable) -> int:
    return RETRY_S if error.retry_after_s is None else max(1, math.ceil(min(error.retry_after_s, 86_400.0)))


def plain_error(refusal: Refused) -> Response:
    """The body of our own routes: `{"error": message, "code": code}`."""
    return json_response({"error": refusal.message, "code": refusal.code}, refusal.status)


def json_response(value: object, status: int = 200) -> Response:
    """`value` as JSON; NumPy's arrays too, NaN as null."""
    try:
        data = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    except orjson.JSONEncodeError:
        # An id may hold what stands for bytes that are no UTF-8, and metadata numbers beyond 64 bits.
        data = json.dumps(value).encode("ascii")
    return Response(data, status, media_type="application/json")


def answer_refused(scope: Scope, refusal: Refused, render: Render) -> Response:
    """The answer, with its headers; the access log finds the refusal in the scope."""
    scope["refusal"] = refusal
    response = render(refusal)
    response.headers.update(refusal.headers)
    if refusal.retry_after_s is not None:
        response.headers["Retry-After"] = str(refusal.retry_after_s)
    return response


def answering(endpoint: Endpoint, render: Render = plain_error) -> Endpoint:
    """`endpoint`, whose errors are answered by `render` in the dialect's own body."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except Exception as error:  # noqa: BLE001 - every one of them is answered and logged
            return answer_refused(request.scope, refused(error), render)

    return answer
