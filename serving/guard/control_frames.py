"""HTTP/2 frames that carry neither headers nor messages: which of them a server takes (RFC 9113, section 6)."""

from __future__ import annotations

from . import http2_frames as http2
from .http2_frames import Frame

MAX_CONTROL_BYTES = 1024
"""Settings of six bytes each; the others are shorter."""
_INITIAL_WINDOW_SIZE, _MAX_FRAME_SIZE = 4, 5
_RANGES = {2: (0, 1), _INITIAL_WINDOW_SIZE: (0, 2**31 - 1), _MAX_FRAME_SIZE: (http2.MAX_FRAME, 2**24 - 1)}


def is_valid(frame: Frame, payload: bytes) -> bool:
    """Whether a server goes on after this frame of SETTINGS, PING, WINDOW_UPDATE or RST_STREAM."""
    if frame.kind == http2.PING:
        return frame.stream == 0 and len(payload) == 8
    if frame.kind == http2.SETTINGS:
        return frame.stream == 0 and _are_settings(frame, payload)
    if frame.kind == http2.RST_STREAM:
        return frame.stream != 0 and len(payload) == 4
    return len(payload) == 4 and int.from_bytes(payload, "big") & 0x7FFFFFFF > 0


def _are_settings(frame: Frame, payload: bytes) -> bool:
    if frame.flags & http2.ACK:
        return not payload
    if len(payload) % 6:
        return False
    for place in range(0, len(payload), 6):
        name = int.from_bytes(payload[place : place + 2], "big")
        low, high = _RANGES.get(name, (0, 2**32 - 1))
        if not low <= int.from_bytes(payload[place + 2 : place + 6], "big") <= high:
            return False
    return True
