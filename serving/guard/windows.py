"""How much of messages Triton takes at this time: at more it ends the connection (RFC 9113, section 5.2)."""

from __future__ import annotations

from collections import deque

from . import http2_frames as http2
from .http2_frames import Frame

INITIAL_BYTES = 65_535
_INITIAL_WINDOW_SIZE = 4


class SendWindows:
    """The windows of one connection to Triton and of its streams, as a client that follows them knows them.

    What is dropped on the way takes nothing from them.
    """

    def __init__(self) -> None:
        self._connection = INITIAL_BYTES
        self._streams: dict[int, int] = {}
        """Bytes beyond the initial size, which may change while they are open."""
        self._initial = INITIAL_BYTES
        self._unconfirmed: deque[int] = deque()
        """Initial sizes by Triton's settings that the client has not confirmed: it may not know them yet."""

    def open(self, stream: int) -> None:
        """Triton gets the headers of a stream."""
        self._streams[stream] = 0

    def close(self, stream: int) -> None:
        """A stream has ended, or was never open."""
        self._streams.pop(stream, None)

    def update(self, frame: Frame, payload: bytes) -> None:
        """Follows a whole frame of Triton's, SETTINGS or WINDOW_UPDATE; others change nothing."""
        if frame.kind == http2.SETTINGS and not frame.flags & http2.ACK:
            latest = self._unconfirmed[-1] if self._unconfirmed else self._initial
            self._unconfirmed.append(_initial_size(payload, latest))
        elif frame.kind == http2.WINDOW_UPDATE:
            num_bytes = int.from_bytes(payload, "big") & 0x7FFFFFFF
            if frame.stream == 0:
                self._connection += num_bytes
            elif frame.stream in self._streams:
                self._streams[frame.stream] += num_bytes

    def confirm(self) -> bool:
        """The client confirms Triton's oldest settings; False where there are none that it has not confirmed."""
        if not self._unconfirmed:
            return False
        self._initial = self._unconfirmed.popleft()
        return True

    def take(self, stream: int, num_bytes: int) -> bool:
        """Whether so many bytes of an open stream may be passed on, which then count."""
        initial = max(self._initial, *self._unconfirmed) if self._unconfirmed else self._initial
        if num_bytes and num_bytes > min(self._connection, initial + self._streams[stream]):
            return False
        self._connection -= num_bytes
        self._streams[stream] -= num_bytes
        return True


def _initial_size(settings: bytes, default: int) -> int:
    """The last one that is set, or the default."""
    for place in range(0, len(settings), 6):
        if int.from_bytes(settings[place : place + 2], "big") == _INITIAL_WINDOW_SIZE:
            default = int.from_bytes(settings[place + 2 : place + 6], "big")
    return default
