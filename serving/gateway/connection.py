"""uvicorn's HTTP connection with bounds that it does not have: on heads, on readers, and on what nobody reads."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .settings import GatewaySettings

LINGER_S = 5.0
"""How long a client may go on sending a body after it was answered."""


def bounded_connection(settings: GatewaySettings) -> type[asyncio.Protocol]:
    """The protocol with the bounds of `settings`."""

    class BoundedConnection(HttpToolsProtocol):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self._in_head = True
            self._head_bytes = 0
            self._timer: asyncio.TimerHandle | None = None
            self._write_timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._time(settings.head_s)

        def connection_lost(self, exc: Exception | None) -> None:
            self._time(None)
            self._stop_write_timer()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self._in_head:
                if self._head_bytes == 0:
                    self._time(settings.head_s)
                self._head_bytes += len(data)
            super().data_received(data)
            # A head's end resets them; the parser reports nothing of a header before its end.
            if self._in_head and self._head_bytes > settings.head_bytes and not self.transport.is_closing():
                self.transport.write(_TOO_LARGE)
                self.transport.close()

        def on_headers_complete(self) -> None:
            self._time(None)
            self._in_head = False
            super().on_headers_complete()

        def on_message_complete(self) -> None:
            self._time(None)
            self._in_head = True
            self._head_bytes = 0
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


_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/json\r\ncontent-length: 56\r\n"
    b'connection: close\r\n\r\n{"error":"the headers are too large","code":"too_large"}'
)
