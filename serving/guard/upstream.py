"""Connections to Triton's own HTTP port, each used by one request at a time and kept for the next."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import httptools

CONNECT_S = 5.0
PASSED_ON = (b"content-type", b"inference-header-content-length")
"""Headers of an answer that a client gets; its length is set anew."""


@dataclass(frozen=True)
class UpstreamAnswer:
    """A whole answer of Triton."""

    status: int
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes


class Waiter(Protocol):
    """Who waits for an answer; exactly one of the two is called, once, unless the exchange is abandoned."""

    def answered(self, answer: UpstreamAnswer) -> None:
        """Triton answered."""

    def unanswered(self) -> None:
        """Triton can't be reached, or closed the connection before its answer was whole."""


class Exchange:
    """One request on its way."""

    def __init__(self, request: Sequence[bytes | memoryview], waiter: Waiter) -> None:
        self.request = request
        self.waiter: Waiter | None = waiter
        self.connection: _Connection | None = None

    def abandon(self) -> None:
        """Nobody waits any more: closes the connection, by which Triton learns of it."""
        self.waiter = None
        if self.connection is not None:
            self.connection.close()

    def finish(self, answer: UpstreamAnswer | None) -> None:
        """Hands the answer over, None where there is none."""
        waiter, self.waiter, self.connection = self.waiter, None, None
        if waiter is None:
            return
        if answer is None:
            waiter.unanswered()
        else:
            waiter.answered(answer)


class Upstream:
    """Triton at a port that may change, when it is started again."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._port = 0
        self._idle: list[_Connection] = []
        self._connecting: set[asyncio.Task[None]] = set()

    def move(self, port: int) -> None:
        """From now on requests go to `port`."""
        if port == self._port:
            return
        self._port = port
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def send(self, exchange: Exchange) -> None:
        """Sends the request on an idle connection, or on a new one."""
        if self._idle:
            connection = self._idle.pop()
            connection.start(exchange)
            return
        task = self._loop.create_task(self._connect(exchange))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self, exchange: Exchange) -> None:
        port = self._port
        connecting = self._loop.create_connection(lambda: _Connection(self, port), "127.0.0.1", port)
        try:
            _, connection = await asyncio.wait_for(connecting, CONNECT_S)
        except OSError:
            exchange.finish(None)
            return
        if exchange.waiter is None:
            connection.close()
        else:
            connection.start(exchange)

    def give_back(self, connection: _Connection) -> None:
        """Keeps a connection for the next request."""
        if connection.port == self._port:
            self._idle.append(connection)
        else:
            connection.close()

    def forget(self, connection: _Connection) -> None:
        """The connection is closed."""
        if connection in self._idle:
            self._idle.remove(connection)


class _Connection(asyncio.Protocol):
    def __init__(self, upstream: Upstream, port: int) -> None:
        self.port = port
        self._upstream = upstream
        self._exchange: Exchange | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def start(self, exchange: Exchange) -> None:
        assert self._transport is not None
        self._exchange, exchange.connection = exchange, self
        self._parser = httptools.HttpResponseParser(self)
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._transport.writelines(exchange.request)

    def close(self) -> None:
        if self._transport is not None:
            self._upstream.forget(self)
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, AttributeError):
            # Also what comes without a request.
            self.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() in PASSED_ON:
            self._headers.append((name, value))

    def on_body(self, data: bytes) -> None:
        self._body.append(data)

    def on_message_complete(self) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            # A second answer: kept twice, the connection would serve two requests at once.
            self.close()
            return
        keep = self._parser.should_keep_alive()
        answer = UpstreamAnswer(self._parser.get_status_code(), self._headers, b"".join(self._body))
        if keep:
            self._upstream.give_back(self)
        else:
            self.close()
        exchange.finish(answer)

    def connection_lost(self, error: Exception | None) -> None:
        self._upstream.forget(self)
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.finish(None)
