"""Frames of HTTP/2 as a client of the guard sends them, and what a server behind it gets of them."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tritonclient.grpc import service_pb2

from serving.guard import http2_frames as http2
from serving.guard.settings import Settings, State
from serving.triton.guarding import Guard
from serving.triton.launcher import LaunchedServer
from serving.triton.ports import listen, port_of

TEXT = "tiny_012345_text"
WAIT_S = 60.0
INFER = "/inference.GRPCInferenceService/ModelInfer"
_INITIAL_WINDOW_SIZE = 4
HEADERS = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", INFER.encode()),
    (b":authority", b"x"),
    (b"te", b"trailers"),
    (b"content-type", b"application/grpc"),
]
WHOLE = b"\0\0\0\0\2xy"
END = http2.more_window(0, 0xABCDEF)
"""Passes as it is."""


def raw_frame(kind: int, stream: int, payload: bytes, flags: int = 0) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def settings_frame(**initial: int) -> bytes:
    return raw_frame(
        http2.SETTINGS, 0, b"".join(struct.pack(">HI", _INITIAL_WINDOW_SIZE, size) for size in initial.values())
    )


def begin_call(stream: int, more: list[tuple[bytes, bytes]] | None = None) -> bytes:
    return http2.headers(stream, HEADERS + (more or []), 0)


def data_frames(stream: int, payload: bytes, flags: int = 0) -> bytes:
    frames = b""
    while len(payload) > http2.MAX_FRAME:
        frames += raw_frame(http2.DATA, stream, payload[: http2.MAX_FRAME])
        payload = payload[http2.MAX_FRAME :]
    return frames + raw_frame(http2.DATA, stream, payload, flags)


ACK = raw_frame(http2.SETTINGS, 0, b"", http2.ACK)
START = http2.PREFACE + settings_frame()
WHOLE_CALL = begin_call(1) + data_frames(1, WHOLE, http2.END_STREAM)


def read_until(connection: socket.socket, wanted: bytes) -> bytes:
    """What comes until `wanted`, or until the end."""
    data = b""
    while wanted not in data and (block := connection.recv(1 << 16)):
        data += block
    return data


@contextmanager
def between(tmp_path: Path) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A client of a guard, and the server behind it, which has got the first settings."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(WAIT_S)
        http, grpc = (listen("127.0.0.1", 0, f"--{kind}-port") for kind in ("http", "grpc"))
        guard = Guard(Settings(http.fileno(), grpc.fileno(), {TEXT: 64}), (http, grpc), tmp_path / "guard.log")
        try:
            guard.tell(State(0, server.getsockname()[1], True, ""))
            with socket.create_connection(("127.0.0.1", port_of(grpc)), timeout=WAIT_S) as client:
                client.sendall(START)
                upstream, _ = server.accept()
                with upstream:
                    upstream.settimeout(WAIT_S)
                    assert read_until(upstream, START) == START
                    yield client, upstream
            assert (tmp_path / "guard.log").read_text() == ""
        finally:
            guard.stop()


def passed_between(client: socket.socket, upstream: socket.socket, sent: bytes) -> bytes:
    client.sendall(sent + END)
    data = read_until(upstream, END)
    assert END in data
    return data.partition(END)[0]


def passed_on(tmp_path: Path, sent: bytes) -> bytes:
    """What a server behind a guard gets of it, after settings."""
    with between(tmp_path) as (client, upstream):
        return passed_between(client, upstream, sent)


def infer_request(text: bytes = b"red shoes") -> Any:
    """For the embedding of a text."""
    request = service_pb2.ModelInferRequest(model_name=TEXT)
    request.inputs.add(name="text", datatype="BYTES", shape=[1, 1])
    request.raw_input_contents.append(struct.pack("<I", len(text)) + text)
    request.outputs.add(name="embedding")
    return request


def public_port(triton: LaunchedServer) -> int:
    """For gRPC."""
    return int(triton.grpc_url.rsplit(":", 1)[1])
