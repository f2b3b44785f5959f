"""One client's HTTP connection: a request is read whole, then answered, or refused with one clear error."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from http import HTTPStatus
from typing import cast

import httptools

from .door import Door
from .http_request import HttpRequest
from .refusal import Refusal, unavailable
from .upstream import Exchange, UpstreamAnswer

LINGER_S = 2.0
"""After an error that ends the connection what the client still sends is read, or it might lose the answer."""
TRY_AGAIN = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT)
RETRY_AFTER_S = 1
"""After a full queue, or a request that waited in one for too long."""
UPGRADE = "Upgrade is not taken beside a body: send HTTP/1.1 without it"
_PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}


class HttpConnection(asyncio.Protocol):
    """Callbacks of the event loop, of the parser, and of the exchange with Triton."""

    def __init__(self, door: Door) -> None:
        self.deadline_s: float | None = None
        self._door = door
        self._parser = httptools.HttpRequestParser(self)
        self._arriving: HttpRequest | None = None
        self._arriving_since_s = 0.0
        self._answering: HttpRequest | None = None
        self._exchange: Exchange | None = None
        self._call = 0
        self._held_bytes = 0
        self._deaf = False
        """What arrives is dropped."""
        self._cut_s = 0.0
        """When a client is cut off that has not read its last answer."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.deadline_s = self._door.now() + self._door.limits.idle_s
        if not self._door.enter(self):
            self._end(unavailable("too many connections: use fewer, or come back later", 1))

    def connection_lost(self, error: Exception | None) -> None:
        self._door.leave(self)
        self._release()
        if self._exchange is not None:
            self._door.given_up.add(self._call)
            self._exchange.abandon()

    def expire(self) -> None:
        """Called when the deadline has passed: too slow a request is told so, all else is closed."""
        now_s = self._door.now()
        if self._deaf and self._transport.get_write_buffer_size() and now_s < self._cut_s:
            self.deadline_s = min(now_s + LINGER_S, self._cut_s)
        elif self._deaf or self._arriving is None:
            self._transport.abort()
        else:
            self._end(Refusal(HTTPStatus.REQUEST_TIMEOUT, "the request came too slowly: send it faster"))

    def pause_writing(self) -> None:
        self.deadline_s = self._door.now() + self._door.limits.write_s

    def resume_writing(self) -> None:
        self.deadline_s = self._door.now() + (LINGER_S if self._deaf else self._door.limits.idle_s)

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        if self._arriving is None and self._answering is None:
            self._arriving_since_s = self._door.now()
            self.deadline_s = self._arriving_since_s + self._door.limits.header_s
        try:
            self._parser.feed_data(data)
            self._check_head(len(data))
        except httptools.HttpParserCallbackError as error:
            if not isinstance(error.__context__, Refusal):
                raise
            self._end(error.__context__)
        except Refusal as refusal:
            self._end(refusal)
        except httptools.HttpParserUpgrade:
            # Ignored, as HTTP allows: the request is answered, and nothing after it is read.
            if self._arriving is None:
                self._deaf = True
            else:
                self._end(Refusal(HTTPStatus.BAD_REQUEST, UPGRADE))
        except httptools.HttpParserError:
            self._end(Refusal(HTTPStatus.BAD_REQUEST, "this is no HTTP/1.1 request"))

    def on_message_begin(self) -> None:
        if self._answering is not None or self._deaf:
            # Sent without waiting for the answer before: HTTP lets a server close, and the client repeats it.
            raise Refusal(HTTPStatus.BAD_REQUEST, "one request at a time")
        self._arriving = HttpRequest(self._door.limits)

    def on_url(self, url: bytes) -> None:
        if self._arriving is not None:
            self._arriving.path += url
            self._arriving.add_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._arriving is not None:
            self._arriving.add_header(name, value)

    def on_headers_complete(self) -> None:
        request = self._arriving
        if request is None:
            return
        upgrades = self._parser.should_upgrade()
        request.keep_alive = self._parser.should_keep_alive() and not upgrades
        request.route = self._door.route(self._parser.get_method(), request.path)
        if upgrades and self._parser.get_method() != b"GET":
            # The parser would skip its body.
            raise Refusal(HTTPStatus.BAD_REQUEST, UPGRADE)
        self._set_body_deadline(request)
        if request.expects and request.declared != 0:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_chunk_header(self) -> None:
        if self._arriving is not None:
            self._arriving.add_chunk()

    def on_body(self, block: bytes) -> None:
        if self._arriving is not None:
            self._door.hold(len(block))
            self._held_bytes += len(block)
            self._arriving.add_body(block)
            self._set_body_deadline(self._arriving)

    def on_message_complete(self) -> None:
        request, self._arriving = self._arriving, None
        if request is None or request.route is None:
            return
        self._answering, self.deadline_s = request, None
        try:
            if request.route.kind == "ready":
                self._door.check_ready()
            if request.route.kind in ("ready", "live"):
                self._answer(HTTPStatus.OK, (), b"")
            else:
                self._call = self._door.given_up.next_call()
                max_batch_size = self._door.batch_size(request.route.model)
                self._exchange = Exchange(request.to_upstream(max_batch_size, self._call), self)
                self._door.send(self._exchange)
        except Refusal as refusal:
            self._refuse(refusal)

    def answered(self, answer: UpstreamAnswer) -> None:
        """Triton answered the request; it does not say itself when it may be asked again."""
        again = [(b"Retry-After", b"%d" % RETRY_AFTER_S)] if answer.status in TRY_AGAIN else []
        self._answer(answer.status, [*answer.headers, *again], answer.body)

    def unanswered(self) -> None:
        """Triton can't be reached, or ended with this request."""
        self._refuse(self._door.lost())

    def _check_head(self, num_bytes: int) -> None:
        # The parser reports a header when it is whole: until then, too, it may not grow without end.
        if self._arriving is not None and self._arriving.route is None:
            self._arriving.add_unparsed(num_bytes)

    def _set_body_deadline(self, request: HttpRequest) -> None:
        limits = self._door.limits
        allowed_s = limits.header_s + limits.body_s + request.body_bytes / limits.body_bytes_per_s
        self.deadline_s = self._arriving_since_s + allowed_s

    def _refuse(self, refusal: Refusal) -> None:
        headers = [(name.encode(), value.encode()) for name, value in refusal.headers.items()]
        self._answer(refusal.status, [(b"Content-Type", b"application/json"), *headers], refusal.body())

    def _end(self, refusal: Refusal) -> None:
        """Refuses a request that is not whole, and closes the connection; an answer that is due goes first."""
        lingers, self._deaf, self._arriving = self._deaf, True, None
        if self._answering is not None:
            self._answering.keep_alive = False
        elif not lingers:
            self._answering = HttpRequest(self._door.limits, keep_alive=False)
            self._refuse(refusal)

    def _answer(self, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> None:
        request, self._answering, self._exchange = self._answering, None, None
        self._release()
        if request is None or self._transport.is_closing():
            return
        lines = [b"HTTP/1.1 %d %b" % (status, _PHRASES.get(status, b"Unknown"))]
        lines += [b"%b: %b" % header for header in headers]
        lines.append(b"Content-Length: %d" % len(body))
        if not request.keep_alive:
            lines.append(b"Connection: close")
        self.deadline_s = self._door.now() + self._door.limits.idle_s
        self._transport.write(b"\r\n".join([*lines, b"", body]))
        if not request.keep_alive:
            self._linger()

    def _linger(self) -> None:
        self._deaf = True
        self.deadline_s = self._door.now() + LINGER_S
        self._cut_s = self._door.now() + self._door.limits.write_s
        if self._transport.can_write_eof():
            self._transport.write_eof()

    def _release(self) -> None:
        self._door.release(self._held_bytes)
        self._held_bytes = 0
