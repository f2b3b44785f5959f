"""One connection of the gateway to a server over HTTP/1.1, used by one request at a time and kept for the next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
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
        self._waiting: asyncio.Future[UpstreamAnswer] | None = None
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
        if self._transport is None:
            raise Lost(unanswered=True)
        self._begin()
        self._waiting = waiting = self._loop.create_future()
        timer = self._loop.call_later(timeout_s, self._fail, TimeoutError())
        self._transport.writelines(request)
        try:
            return await waiting
        finally:
            timer.cancel()
            if self._waiting is not None:
                # Nobody waits any more: by this the other side learns of it.
                self.close()

    @property
    def is_open(self) -> bool:
        """Whether another request may be sent on it."""
        return self._transport is not None and not self._transport.is_closing()

    def close(self) -> None:
        """Ends it at once."""
        self._waiting = None
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._begun = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(NoAnswer(f"{type(error).__name__}: {error}"))
            return
        if self._in_head:
            # Of a header the parser tells nothing before its end.
            self._head_bytes += len(data)
            if self._head_bytes > MOST_HEAD_BYTES:
                self._fail(NoAnswer("its head is too long"))

    def eof_received(self) -> None:
        if self._waiting is not None and not self._in_head and not self._has_length():
            self._finish()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._forget(self)
        self._fail(Lost(unanswered=not self._begun))

    def on_message_begin(self) -> None:
        if self._waiting is None:
            # An answer that nobody asked for.
            self.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._in_head = False

    def on_body(self, data: bytes) -> None:
        self._size += len(data)
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
        waiting, self._waiting = self._waiting, None
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        if not self._parser.should_keep_alive() or self._is_sending():
            self.close()
        self.idle_since_s = self._loop.time()
        if waiting is not None and not waiting.done():
            waiting.set_result(UpstreamAnswer(self._parser.get_status_code(), self._headers, body))

    def _has_length(self) -> bool:
        return any(name in (b"content-length", b"transfer-encoding") for name, _ in self._headers)

    def _is_sending(self) -> bool:
        """Whether the answer came before the request was whole there: another one would come behind its rest."""
        return self._transport is not None and self._transport.get_write_buffer_size() > 0

    def _fail(self, error: Exception) -> None:
        waiting = self._waiting
        self.close()
        if waiting is not None and not waiting.done():
            waiting.set_exception(error)
