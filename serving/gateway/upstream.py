"""Requests passed on over HTTP, whole and within bounds. Only to addresses that the operator has set."""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import Callable, Sequence
from functools import partial
from urllib.parse import urlsplit

from .errors import Refused
from .upstream_connection import HeaderList, Lost, NoAnswer, Tell, UpstreamAnswer, UpstreamConnection

__all__ = ["HeaderList", "Lost", "Upstream", "UpstreamAnswer", "in_few_parts", "upstream_refusal"]

CONNECT_S = 5.0
IDLE_S = 15.0
"""A connection that was idle for longer is not used again: what stands between may have dropped it in silence."""
_LARGEST_COPY_BYTES = 64 * 1024
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")


class Upstream:
    """Connections by address, each opened when it is needed."""

    def __init__(self, connections: int = 64) -> None:
        """`connections`: most of them to an address; more requests wait for their turn."""
        self._connections = connections
        self._services: dict[str, _Service] = {}

    async def pass_on(
        self, method: str, address: str, path: bytes, body: bytes, headers: HeaderList, timeout_s: float
    ) -> UpstreamAnswer:
        """The answer to `method` of `path` below `address`, whatever its status.

        Redirects are not followed, nothing is decompressed, and proxies of the environment are not asked. An idle
        connection that the other side had closed is tried once more: what is asked changes nothing there.

        Args:
            address: http or https, without a slash at its end.
            path: from its slash on, escaped.
            headers: besides Host and Content-Length.

        Raises:
            Refused: 503 where nobody answers, 504 where that takes longer than `timeout_s`, 502 for what is no
                HTTP, or too long.
            ValueError: a header that can't be sent.
        """
        service = self._services.get(address)
        if service is None:
            service = self._services[address] = _Service(address, self._connections)
        try:
            return await service.ask(service.request(method, path, body, headers), timeout_s)
        except (OSError, Lost, NoAnswer) as error:
            raise upstream_refusal(error) from error

    def is_ready(self, address: str) -> bool:
        """Whether a connection waits for the next request."""
        service = self._services.get(address)
        return service is not None and service.has_idle

    def start(
        self,
        method: str,
        address: str,
        path: bytes,
        body: bytes,
        headers: HeaderList,
        timeout_s: float,
        tell: Tell,
    ) -> Callable[[], None] | None:
        """As `pass_on`, where a connection waits for it and nobody for a turn; returns what ends it, else None.

        `tell` is called with the answer, or with what `upstream_refusal` takes: Lost with `unanswered` where the
        other side had closed the connection before.

        Raises:
            ValueError: a header that can't be sent.
        """
        service = self._services.get(address)
        if service is None:
            return None
        request = service.request(method, path, body, headers)
        return service.start(request, timeout_s, tell)

    async def close(self) -> None:
        """Ends all connections."""
        for service in self._services.values():
            service.close()
        self._services.clear()


def in_few_parts(lines: Sequence[bytes], body: bytes) -> tuple[bytes, ...]:
    """A head and its body as they are sent: in one piece, where that is less work than to hand over two."""
    if len(body) > _LARGEST_COPY_BYTES:
        return b"".join(lines), body
    return (b"".join((*lines, body)),)


def upstream_refusal(error: Exception) -> Refused:
    """What a client is told of a request that got no answer."""
    if isinstance(error, TimeoutError):
        return Refused(504, "timeout", "no answer in time: send less at once, or come again")
    if isinstance(error, NoAnswer):
        return Refused(502, "bad_answer", "the server gave an answer that is none", detail=str(error))
    message = "the server is away or starting: come again"
    return Refused(503, "unavailable", message, retry_after_s=2, detail=str(error))


class _Service:
    """One address, and its connections."""

    def __init__(self, address: str, connections: int) -> None:
        parts = urlsplit(address)
        self._host = parts.hostname or ""
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._port = parts.port or (443 if self._tls else 80)
        self._path = parts.path.encode()
        self._named = b" HTTP/1.1\r\nhost: " + parts.netloc.encode() + b"\r\n"
        self._turns = asyncio.Semaphore(connections)
        # The one that was used last is the last.
        self._idle: list[UpstreamConnection] = []
        self._open: set[UpstreamConnection] = set()

    def request(self, method: str, path: bytes, body: bytes, headers: HeaderList) -> Sequence[bytes]:
        """Head and body as they are sent."""
        lines = [method.encode(), b" ", self._path, path, self._named]
        for name, value in headers:
            if _VALUE.fullmatch(value) is None:
                raise ValueError(f"the header {name.decode()} has characters that none can have")
            lines += (name, b": ", value, b"\r\n")
        if method == "POST":
            lines.append(b"content-length: %d\r\n" % len(body))
        lines.append(b"\r\n")
        return in_few_parts(lines, body)

    @property
    def has_idle(self) -> bool:
        return bool(self._idle)

    def start(self, request: Sequence[bytes], timeout_s: float, tell: Tell) -> Callable[[], None] | None:
        connection = None if self._turns.locked() else self._kept(asyncio.get_running_loop().time())
        if connection is None:
            return None
        # Where there is a turn, nothing is awaited for it.
        with contextlib.suppress(StopIteration):
            self._turns.acquire().send(None)
        connection.start(request, timeout_s, partial(self._told, connection, tell))
        return partial(self._stop, connection)

    def _told(self, connection: UpstreamConnection, tell: Tell, found: UpstreamAnswer | Exception) -> None:
        self._turns.release()
        if connection.is_open:
            self._idle.append(connection)
        tell(found)

    def _stop(self, connection: UpstreamConnection) -> None:
        if connection.is_waiting:
            self._turns.release()
            connection.close()

    async def ask(self, request: Sequence[bytes], timeout_s: float) -> UpstreamAnswer:
        loop = asyncio.get_running_loop()
        end_s = loop.time() + timeout_s
        if self._turns.locked():
            async with asyncio.timeout(timeout_s):
                await self._turns.acquire()
        else:
            await self._turns.acquire()
        try:
            connection = self._kept(loop.time())
            if connection is not None:
                try:
                    return await self._asked(connection, request, end_s)
                except Lost as error:
                    if not error.unanswered:
                        raise
            return await self._asked(await self._connect(end_s - loop.time()), request, end_s)
        finally:
            self._turns.release()

    def close(self) -> None:
        for connection in list(self._open):
            connection.close()

    async def _asked(
        self, connection: UpstreamConnection, request: Sequence[bytes], end_s: float
    ) -> UpstreamAnswer:
        answer = await connection.ask(request, end_s - asyncio.get_running_loop().time())
        if connection.is_open:
            self._idle.append(connection)
        return answer

    def _kept(self, now_s: float) -> UpstreamConnection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open and now_s - connection.idle_since_s < IDLE_S:
                return connection
            connection.close()
        return None

    async def _connect(self, timeout_s: float) -> UpstreamConnection:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(min(timeout_s, CONNECT_S)):
            _, connection = await loop.create_connection(
                lambda: UpstreamConnection(self._forget), self._host, self._port, ssl=self._tls
            )
        self._open.add(connection)
        return connection

    def _forget(self, connection: UpstreamConnection) -> None:
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
