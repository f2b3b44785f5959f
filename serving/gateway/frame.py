"""What every request goes through: an id, bounds on memory, an end with its client, headers, log and counters."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .accounts import Accounts
from .client_gone import WatchedReceive
from .errors import answer_refused, plain_error, refused
from .headers import first_values

CLIENT_GONE = 499
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "font-src 'self'; manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"cache-control", b"no-store"),
)
"""Of every answer that has not its own."""


class Frame:
    """The outermost of our layers; what fails in it or below is logged, and answered without a traceback."""

    def __init__(self, app: ASGIApp, *, accounts: Accounts) -> None:
        self.app = app
        self._accounts = accounts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._request(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._accounts.begin(scope)
        watched = WatchedReceive(scope, receive)
        answer = _Answer(scope, send, watched, expects=b"expect" in first_values(scope))
        try:
            await self._answered(scope, watched, answer)
        finally:
            watched.close()
            self._accounts.end(scope, answer.status, answer.num_bytes)

    async def _answered(self, scope: Scope, watched: WatchedReceive, answer: _Answer) -> None:
        try:
            await self.app(scope, watched, answer)
        except asyncio.CancelledError:
            # Or the server is stopping.
            task = asyncio.current_task()
            if not watched.gone or task is None:
                raise
            task.uncancel()
            answer.status = CLIENT_GONE
        except Exception as error:
            refusal = refused(error)
            if answer.started:
                scope["refusal"] = refusal
                raise
            await answer_refused(scope, refusal, plain_error)(scope, watched, answer)


class _Answer:
    """`send` of a request: adds headers, and counts."""

    def __init__(self, scope: Scope, send: Send, watched: WatchedReceive, *, expects: bool) -> None:
        self._scope = scope
        self._send = send
        self._watched = watched
        self._expects = expects
        self.started = False
        self.status = 500
        self.num_bytes = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            self.status = message["status"]
            self._add_headers(message)
        elif message["type"] == "http.response.body":
            self.num_bytes += len(message.get("body", b""))
            if not message.get("more_body", False):
                self._watched.answered()
        await self._send(message)

    def _add_headers(self, message: Message) -> None:
        headers = [*message.get("headers", ())]
        own = {name.lower() for name, _ in headers}
        headers += [pair for pair in HEADERS if pair[0] not in own]
        headers.append((b"x-request-id", self._scope["request_id"].encode()))
        if self._expects and not self._watched.begun:
            # Its body may come or not: what follows on this connection could not be told from it.
            headers.append((b"connection", b"close"))
        message["headers"] = headers
