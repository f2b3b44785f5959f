"""uvicorn's HTTP connection with bounds that it lacks: on heads, trailers, readers, and requests in a row."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, cast

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from .settings import GatewaySettings
from .short_way import ShortCall, ShortWay

LINGER_S = 5.0
"""How long a client may go on sending a body after it was answered."""
FREE_CHUNKS = 100
CHUNK_BYTES = 64
"""Least average size of a chunked body's chunks, after the first hundred: each costs as much as a large one."""
MOST_IN_A_ROW = 256
"""Requests that a client may send before the first of them is answered."""


def bounded_connection(settings: GatewaySettings, short_way: ShortWay | None) -> type[asyncio.Protocol]:
    """The protocol with the bounds of `settings`; `short_way`: that of KServe's requests, where there is one."""

    class BoundedConnection(HttpToolsProtocol):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self._in_head = True
            # Of a head, or of what follows the last block of a body: chunks without one, and trailers.
            self._head_bytes = 0
            self._body_bytes = self._num_chunks = 0
            self._refusal = _NO_HTTP
            # Of a request that may take the short way: what has come of its body; None: of none.
            self._whole: list[bytes] | None = None
            self._short: ShortCall | None = None
            self._timer: asyncio.TimerHandle | None = None
            self._write_timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._time(settings.head_s)

        def connection_lost(self, exc: Exception | None) -> None:
            self._time(None)
            self._stop_write_timer()
            if self._short is not None:
                self._short.gone()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self._in_head and self._head_bytes == 0:
                self._time(settings.head_s)
            self._head_bytes += len(data)
            super().data_received(data)
            if self.transport.is_closing():
                return
            if self._whole is not None:
                self._go_usual_way()
            # A head's end and a body's blocks reset them; the parser reports nothing of a header before its end.
            if self._head_bytes > settings.head_bytes:
                self._refuse(_TOO_LARGE)
            elif len(self.pipeline) > MOST_IN_A_ROW:
                self.pipeline.clear()
                self.transport.abort()

        def on_header(self, name: bytes, value: bytes) -> None:
            # What follows a body is no header: by then keys and bounds were looked up, or are about to be.
            if self._in_head:
                super().on_header(name, value)

        def on_chunk_header(self) -> None:
            self._num_chunks += 1
            if self._num_chunks > FREE_CHUNKS + self._body_bytes // CHUNK_BYTES:
                self._refusal = _SMALL_CHUNKS
                raise ValueError("small chunks")  # the parser stops here, and says so

        def send_400_response(self, msg: str) -> None:
            self._refuse(self._refusal)

        def on_body(self, body: bytes) -> None:
            self._head_bytes = 0
            self._body_bytes += len(body)
            if self._whole is None:
                super().on_body(body)
            else:
                self._whole.append(body)

        def on_headers_complete(self) -> None:
            self._time(None)
            self._in_head = False
            self._head_bytes = self._body_bytes = self._num_chunks = 0
            if self._may_be_short():
                self._whole = []
            else:
                super().on_headers_complete()

        def on_message_complete(self) -> None:
            self._time(None)
            self._in_head = True
            self._head_bytes = 0
            if self._whole is not None:
                if self._goes_short_way():
                    return
                self._go_usual_way()
            super().on_message_complete()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if not self._in_head:
                self._time(LINGER_S)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._stop_write_timer()
            self._write_timer = self.loop.call_later(settings.write_s, self.transport.abort)

        def resume_writing(self) -> None:
            self._stop_write_timer()
            super().resume_writing()

        def send(self, parts: Sequence[bytes], *, keep_alive: bool) -> None:
            """As `Client.send` of the short way."""
            self._short = None
            self.transport.writelines(parts)
            if not keep_alive:
                self.transport.close()
            self.on_response_complete()

        def take_back(self, call: ShortCall) -> None:
            """As `Client.take_back` of the short way."""
            self._short = None
            cycle = RequestResponseCycle(
                scope=call.scope,  # type: ignore[arg-type]
                transport=self.transport,
                flow=self.flow,
                logger=self.logger,
                access_logger=self.access_logger,
                access_log=self.access_log,
                default_headers=self.server_state.default_headers,
                message_event=asyncio.Event(),
                expect_100_continue=False,
                keep_alive=call.keep_alive,
                on_response=self.on_response_complete,
            )
            cycle.body, cycle.more_body = bytearray(call.body), False
            cycle.message_event.set()
            if self.cycle is call:
                self.cycle = cycle
            self._start_asgi_task(cycle, self.app)

        def _may_be_short(self) -> bool:
            parser = self.parser
            return (
                short_way is not None
                and parser.get_method() == b"POST"
                and short_way.knows(self.url)
                and (self.cycle is None or self.cycle.response_complete)
                and not (self.pipeline or self.expect_100_continue or self.flow.write_paused)
                and parser.get_http_version() == "1.1"
                and parser.should_keep_alive()
                and not parser.should_upgrade()
                and len(self.connections) < settings.connections
            )

        def _goes_short_way(self) -> bool:
            assert short_way is not None
            assert self._whole is not None
            body = self._whole[0] if len(self._whole) == 1 else b"".join(self._whole)
            path = self.url.decode("ascii")
            self.scope |= {"method": "POST", "path": path, "raw_path": self.url, "query_string": b""}
            scope = cast("Scope", self.scope)
            call = short_way.begin(scope, body, self, self.server_state.default_headers)
            if call is None:
                return False
            self._whole = None
            self._short = call
            self.cycle = call  # type: ignore[assignment]  # it has all that is asked of one
            return True

        def _go_usual_way(self) -> None:
            """What `super` does at the end of a head, and with what has come of its body."""
            blocks, self._whole = self._whole or (), None
            super().on_headers_complete()
            for block in blocks:
                super().on_body(block)

        def _refuse(self, answer: bytes) -> None:
            """Ends the connection; with `answer` where it is its turn, and nothing of another one was sent."""
            is_new = self._in_head or self._whole is not None
            cycle = self.cycle
            if cycle is None or (cycle.response_complete if is_new else not cycle.response_started):
                self.transport.write(answer)
            self.transport.close()

        def _time(self, seconds: float | None) -> None:
            """Closes the connection after `seconds`, unless it is called again before."""
            if self._timer is not None:
                self._timer.cancel()
            self._timer = None if seconds is None else self.loop.call_later(seconds, self.transport.close)

        def _stop_write_timer(self) -> None:
            if self._write_timer is not None:
                self._write_timer.cancel()
                self._write_timer = None

    return BoundedConnection


def _answer(status: HTTPStatus, code: str, message: str) -> bytes:
    """A whole answer, after which the connection ends."""
    body = json.dumps({"error": message, "code": code}).encode()
    head = f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\nconnection: close\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


_NO_HTTP = _answer(HTTPStatus.BAD_REQUEST, "invalid_input", "this is no request of HTTP/1.1")
_SMALL_CHUNKS = _answer(
    HTTPStatus.BAD_REQUEST, "invalid_input", "the body comes in chunks of a few bytes: send it whole"
)
_TOO_LARGE = _answer(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "too_large", "the headers are too large")
