"""HTTP/2 frames (RFC 9113): where they begin and end in a stream of bytes, and those that the guard writes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER_BYTES = 9
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS, PADDED, PRIORITY = 0x1, 0x4, 0x8, 0x20
ACK = 0x1
NO_ERROR, PROTOCOL_ERROR, FLOW_CONTROL_ERROR, CANCEL, ENHANCE_YOUR_CALM = 0, 1, 3, 8, 11
MAX_FRAME = 16_384
"""What every peer takes."""
MAX_WINDOW = 2**31 - 1
MAX_LINE = 120
"""Of a message: longer lengths take several bytes in a header block."""


@dataclass(frozen=True)
class Frame:
    """A frame's header; `raw` are its bytes."""

    length: int
    kind: int
    flags: int
    stream: int
    raw: bytes


@dataclass(frozen=True)
class Part:
    """Some bytes of a frame's payload; `first` and `last` say whether the frame begins and ends with them."""

    frame: Frame
    payload: memoryview
    first: bool
    last: bool


class FrameSplitter:
    """Cuts bytes into frames as they arrive, without waiting for whole frames."""

    def __init__(self) -> None:
        self._header = b""
        self._frame: Frame | None = None
        self._left = 0

    @property
    def at_border(self) -> bool:
        """Whether no frame is under way, so that another one may be written here."""
        return self._frame is None

    def feed(self, data: bytes) -> Iterator[Part]:
        """The parts in `data`, in order."""
        view, place = memoryview(data), 0
        while place < len(data):
            first = self._frame is None
            if first:
                taken = data[place : place + HEADER_BYTES - len(self._header)]
                self._header += taken
                place += len(taken)
                if len(self._header) < HEADER_BYTES:
                    return
                self._frame, self._header = _read_header(self._header), b""
                self._left = self._frame.length
            frame = self._frame
            assert frame is not None
            payload = view[place : place + self._left]
            place += len(payload)
            self._left -= len(payload)
            last = self._left == 0
            if last:
                self._frame = None
            yield Part(frame, payload, first, last)


def reset(stream: int, code: int) -> bytes:
    """Ends a stream."""
    return _frame(RST_STREAM, 0, stream, code.to_bytes(4, "big"))


def go_away(code: int) -> bytes:
    """Says that the connection ends."""
    return _frame(GOAWAY, 0, 0, (2**31 - 1).to_bytes(4, "big") + code.to_bytes(4, "big"))


def pong(payload: bytes) -> bytes:
    """The answer to a ping."""
    return _frame(PING, ACK, 0, payload)


def more_window(stream: int, num_bytes: int) -> bytes:
    """Allows the peer so many bytes more of a stream; of all together for 0."""
    return _frame(WINDOW_UPDATE, 0, stream, num_bytes.to_bytes(4, "big"))


def grpc_error(stream: int, status: int, message: str) -> bytes:
    """A whole answer with a gRPC status, whose headers refer to no earlier ones."""
    block = b"\x88"  # :status: 200
    for name, value in (
        ("content-type", "application/grpc"),
        ("grpc-status", str(status)),
        ("grpc-message", message[:MAX_LINE]),
    ):
        block += b"\x00" + _text(name) + _text(value)
    return _frame(HEADERS, END_STREAM | END_HEADERS, stream, block) + reset(stream, NO_ERROR)


def data_header(stream: int, length: int, flags: int) -> bytes:
    """What stands before a piece of a message."""
    return length.to_bytes(3, "big") + bytes([DATA, flags]) + stream.to_bytes(4, "big")


def data(stream: int, payload: memoryview, flags: int) -> list[bytes | memoryview]:
    """A piece of a message, in frames that every peer takes; the last one has the flags."""
    frames: list[bytes | memoryview] = []
    while len(payload) > MAX_FRAME:
        frames += [data_header(stream, MAX_FRAME, flags & ~END_STREAM), payload[:MAX_FRAME]]
        payload = payload[MAX_FRAME:]
    return [*frames, data_header(stream, len(payload), flags), payload]


def headers(stream: int, values: Sequence[tuple[bytes, bytes]], flags: int) -> bytes:
    """Headers of a call, in as many frames as they need."""
    block = b"".join(b"\x00" + _literal(name) + _literal(value) for name, value in values)
    blocks = [block[place : place + MAX_FRAME] for place in range(0, len(block), MAX_FRAME)]
    frames = [
        _frame(
            CONTINUATION if number else HEADERS,
            (0 if number else flags) | (END_HEADERS if number == len(blocks) - 1 else 0),
            stream,
            part,
        )
        for number, part in enumerate(blocks)
    ]
    return b"".join(frames)


def _literal(value: bytes) -> bytes:
    """Its length in front, as RFC 7541 writes numbers with seven bits in the first byte."""
    if len(value) < 127:
        return bytes([len(value)]) + value
    rest, number = len(value) - 127, b"\x7f"
    while rest >= 128:
        number += bytes([rest % 128 + 128])
        rest //= 128
    return number + bytes([rest]) + value


def _text(value: str) -> bytes:
    encoded = value.encode("ascii")
    return bytes([len(encoded)]) + encoded


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def _read_header(raw: bytes) -> Frame:
    stream = int.from_bytes(raw[5:9], "big") & 0x7FFFFFFF
    return Frame(int.from_bytes(raw[:3], "big"), raw[3], raw[4], stream, raw)
