"""The headers of gRPC calls: which methods are known, and which headers Triton gets."""

from __future__ import annotations

import re
from collections.abc import Sequence

import hpack

from .given_up import CALL_HEADER
from .grpc_streams import UNIMPLEMENTED
from .http2_frames import PADDED, PRIORITY
from .refusal import Refusal

Headers = Sequence[tuple[bytes, bytes]]

MAX_BYTES = 16 * 1024
"""Of headers that a block stands for, which may be many times as long as the block."""
_SERVICE = b"/inference.GRPCInferenceService/"
_METHODS = frozenset(
    _SERVICE + name
    for name in (
        b"ServerLive",
        b"ServerReady",
        b"ServerMetadata",
        b"ModelReady",
        b"ModelMetadata",
        b"ModelConfig",
        b"ModelStatistics",
        b"ModelInfer",
        b"RepositoryIndex",
    )
)
_OTHERS = (b"/grpc.health.v1.Health/Check",)
_PSEUDO = (b":method", b":scheme", b":path", b":authority")
_GRPC = (b"te", b"content-type", b"user-agent", b"grpc-encoding", b"grpc-accept-encoding")
_TRACING = (b"traceparent", b"tracestate", b"baggage", b"x-request-id")
_PASSED = frozenset(_PSEUDO + _GRPC + _TRACING)
"""The deadline is not among them: the client keeps it, and Triton 2.51 may end where it gives up a call under way.

Others may end the connection, and with it all calls: a name with `-bin` does whose value is no base64.
"""
_PRINTABLE = re.compile(rb"[ -~]*")


class HeaderReader:
    """Reads the header blocks of one connection, in order: a block may refer to those before it."""

    def __init__(self) -> None:
        self._decoder = hpack.Decoder(max_header_list_size=MAX_BYTES)

    def decode(self, block: bytes, flags: int) -> Headers:
        """Names and values of those that Triton gets.

        Raises:
            ValueError: the block can't be read, or stands for too much.
        """
        try:
            headers = self._decoder.decode(_unpadded(block, flags), raw=True)
        except (hpack.HPACKError, IndexError) as error:
            raise ValueError(f"headers can't be read: {error}") from error
        return [(name, value) for name, value in headers if name in _PASSED and _PRINTABLE.fullmatch(value)]


def with_call(headers: Headers, number: int) -> Headers:
    """With the call's number, where it has one."""
    return [*headers, (CALL_HEADER, b"%d" % number)] if number else headers


def check_method(headers: Headers) -> Refusal | None:
    """Why the call is refused; None for a known method.

    Calls in streams are refused: no model of ours answers more than once.
    """
    # One of several might be another one for Triton.
    path = b"".join(value for name, value in headers if name == b":path")
    if path in _METHODS or path in _OTHERS:
        return None
    return Refusal(UNIMPLEMENTED, "this method is not served here, or it is not allowed")


def _unpadded(block: bytes, flags: int) -> bytes:
    padding = 0
    if flags & PADDED:
        padding, block = block[0], block[1:]
    if flags & PRIORITY:
        block = block[5:]
    return block[: len(block) - padding]
