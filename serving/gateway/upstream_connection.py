"""One connection of the gateway to a server over HTTP/1.1, used by one request at a time and kept for the next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import TypeAlias, cast

import httptools

MOST_BYTES = 256 * 1024 * 1024
MOST_HEAD_BYTES = 64 * 1024
HeaderList: TypeAlias = Sequence[tuple[bytes, bytes]]


class NoAnswer(Exception):
    """What came is no answer of HTTP, or too long."""


class Lost(Exception):
    """The connection ended before its answer was whole.

    Attributes:
        unanswered: nothing of an answer had come.
    """

    def __init__(self, unanswered: bool) -> None:
        super().__init__("the connection ended before its answer was whole")
        self.unanswered = unanswered


@dataclass(frozen=True)
class UpstreamAnswer:
    """What came back; header names in lower case."""

    status: int
    headers: HeaderList
    body: bytes = field(repr=False)


Tell: TypeAlias = Callable[[UpstreamAnswer | Exception], None]


class UpstreamConnection(asyncio.Protocol):
    """A client's side of HTTP/1.1: whole requests, whole answers.

    Attributes:
        idle_since_s: by the loop's clock, when its last answer was whole.
    """

    def __init__(self, forget: Callable[[UpstreamConnection], None]) -> None:
        """`forget` is called when it has ended."""
        self.idle_since_s = 0.0
        self._forget = forget
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._tell: Tell | None = None
        self._answer: UpstreamAnswer | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None
        self._begin()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    async def ask(self, request: Sequence[bytes], timeout_s: float) -> UpstreamAnswer:
        """Sends the parts of `request` and returns the whole answer; where that fails, the connection is closed.

        Raises:
            TimeoutError: no whole answer within `timeout_s`.
            Lost: the other side closed it.
            NoAnswer: what came is none, has more than 256 MiB, or a head of more than 64 KiB.
        """
        waiting: asyncio.Future[UpstreamAnswer] = self._loop.create_future()
        self.start(request, timeout_s, partial(_settle, waiting))
        try:
            return await waiting
        finally:
            if self._tell is not None:
                # Nobody waits any more: by this the other side learns of it.
                self.close()

    def start(self, request: Sequence[bytes], timeout_s: float, tell: Tell) -> None:
        """Sends the parts of `request`; `tell` is called with the whole answer, or with what `ask` would raise.

        It is not called after `close`.
        """
        if self._transport is None:
            tell(Lost(unanswered=True))
            return
        self._begin()
        self._tell = tell
        self._timer = self._loop.call_later(timeout_s, self._fail, TimeoutError())
        self._transport.writelines(request)

    @property
    def is_waiting(self) -> bool:
        """Whether somebody is still to be told."""
        return self._tell is not None

    @property
    def is_open(self) -> bool:
        """Whether another request may be sent on it."""
        return self._transport is not None and not self._transport.is_closing()

    def close(self) -> None:
        """Ends it at once; nobody is told."""
        self._taken()
        self._abort()

    def data_received(self, data: bytes) -> None:
        self._begun = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._abort()
            if self._answer is None:
                self._fail(NoAnswer(f"{type(error).__name__}: {error}"))
                return
        if self._answer is not None:
            # Not from within the parser: what else came is seen before another request is sent.
            self._hand_over()
        elif self._in_head:
            # Of a header the parser tells nothing before its end.
            self._head_bytes += len(data)
            if self._head_bytes > MOST_HEAD_BYTES:
                self._fail(NoAnswer("its head is too long"))

    def eof_received(self) -> None:
        if self._tell is not None and not self._in_head and not self._has_length():
            self._finish()
            self._hand_over()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._forget(self)
        self._fail(Lost(unanswered=not self._begun))

    def on_message_begin(self) -> None:
        if self._tell is None or self._answer is not None:
            # An answer that nobody asked for.
            self._abort()

    def on_header(self, name: bytes, value: bytes) -> None:
        # What follows a body is no header.
        if self._in_head:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._in_head = False

    def on_body(self, data: bytes) -> None:
        self._size += len(data)
        if self._answer is not None:
            return
        if self._size > MOST_BYTES:
            self._fail(NoAnswer("it is too long"))
        else:
            self._body.append(data)

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() < HTTPStatus.OK:
            # Such as 100 Continue: the answer follows.
            self._begin()
        else:
            self._finish()

    def _begin(self) -> None:
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._size = self._head_bytes = 0
        self._in_head = True
        self._begun = False

    def _finish(self) -> None:
        if self._answer is not None:
            return
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._answer = UpstreamAnswer(self._parser.get_status_code(), self._headers, body)
        if not self._parser.should_keep_alive() or self._is_sending():
            self._abort()
        self.idle_since_s = self._loop.time()

    def _hand_over(self) -> None:
        answer, tell = self._answer, self._taken()
        if answer is not None and tell is not None:
            tell(answer)

    def _has_length(self) -> bool:
        return any(name in (b"content-length", b"transfer-encoding") for name, _ in self._headers)

    def _is_sending(self) -> bool:
        """Whether the answer came before the request was whole there: another one would come behind its rest."""
        return self._transport is not None and self._transport.get_write_buffer_size() > 0

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _fail(self, error: Exception) -> None:
        tell = self._taken()
        self._abort()
        if tell is not None:
            tell(error)

    def _taken(self) -> Tell | None:
        """Who is to be told, once."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        tell, self._tell, self._answer = self._tell, None, None
        return tell


def _settle(waiting: asyncio.Future[UpstreamAnswer], found: UpstreamAnswer | Exception) -> None:
    if waiting.done():
        return
    if isinstance(found, Exception):
        waiting.set_exception(found)
    else:
        waiting.set_result(found)
