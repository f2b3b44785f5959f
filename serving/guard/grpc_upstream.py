"""The connection to Triton's own gRPC port for one of a client: what Triton answers passes as it is."""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

from . import http2_frames as http2
from .http2_frames import FrameSplitter
from .windows import SendWindows


class Client(Protocol):
    """Whose calls these are."""

    def upstream_lost(self) -> None:
        """Triton has ended the connection, and with it all calls."""

    def pause(self) -> None:
        """Triton reads more slowly than the client writes."""

    def resume(self) -> None:
        """It has caught up."""

    def write(self, parts: list[bytes | memoryview]) -> None:
        """Sends to the client."""

    def heard(self, number: int) -> None:
        """Something of a call's answer has come."""

    def forget(self, number: int, *, finished: bool = False) -> None:
        """A call has ended."""


class GrpcUpstream(asyncio.Protocol):
    """The connection to Triton for one of a client."""

    def __init__(self, client: Client) -> None:
        self.windows = SendWindows()
        self._client = client
        self._frames = FrameSplitter()
        self._transport: asyncio.Transport | None = None
        self._own: list[bytes] = []
        self._control = b""

    @property
    def connected(self) -> bool:
        """Whether Triton has taken the connection."""
        return self._transport is not None

    @property
    def at_border(self) -> bool:
        """Whether the guard may write a frame of its own to the client."""
        return self._frames.at_border

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._client.upstream_lost()

    def pause_writing(self) -> None:
        self._client.pause()

    def resume_writing(self) -> None:
        self._client.resume()

    def pause(self) -> None:
        """The client reads more slowly than Triton writes."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        """It has caught up."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def write(self, parts: list[bytes | memoryview]) -> None:
        """Sends to Triton."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.writelines(parts)

    def close(self) -> None:
        """Ends the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def tell_client(self, frame: bytes) -> None:
        """Writes a frame of the guard to the client, after the one of Triton that is on its way."""
        self._own.append(frame)
        if self._frames.at_border:
            self._client.write([*self._take_own()])

    def data_received(self, data: bytes) -> None:
        passed: list[bytes | memoryview] = []
        for part in self._frames.feed(data):
            frame = part.frame
            if part.first:
                passed.append(frame.raw)
            passed.append(part.payload)
            if frame.kind in (http2.SETTINGS, http2.WINDOW_UPDATE):
                self._control = (b"" if part.first else self._control) + part.payload
                if part.last:
                    self.windows.update(frame, self._control)
            if part.last:
                passed += self._take_own()
                if frame.kind in (http2.DATA, http2.HEADERS):
                    self._client.heard(frame.stream)
                ends = frame.kind in (http2.DATA, http2.HEADERS) and frame.flags & http2.END_STREAM
                if ends or frame.kind == http2.RST_STREAM:
                    self._client.forget(frame.stream, finished=True)
        self._client.write(passed)

    def _take_own(self) -> list[bytes]:
        own, self._own = self._own, []
        return own
