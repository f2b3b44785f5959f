"""What would end the guard's connection to Triton, and with it other calls, does not reach Triton."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hpack
import pytest
from tritonclient.grpc import service_pb2

from serving.guard import http2_frames as http2
from serving.guard.grpc_headers import HeaderReader
from serving.guard.http2_frames import Frame
from serving.guard.settings import Settings, State
from serving.guard.windows import INITIAL_BYTES, SendWindows
from serving.triton.guarding import Guard
from serving.triton.launcher import LaunchedServer
from serving.triton.ports import listen, port_of

TEXT = "tiny_012345_text"
WAIT_S = 60.0
INITIAL_WINDOW_SIZE = 4
HEADERS = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/inference.GRPCInferenceService/ModelInfer"),
    (b":authority", b"x"),
    (b"te", b"trailers"),
    (b"content-type", b"application/grpc"),
]
WHOLE = b"\0\0\0\0\2xy"
END = http2.more_window(0, 0xABCDEF)
"""Passes as it is."""


def _frame(kind: int, stream: int, payload: bytes, flags: int = 0) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def _settings(**initial: int) -> bytes:
    return _frame(
        http2.SETTINGS, 0, b"".join(struct.pack(">HI", INITIAL_WINDOW_SIZE, size) for size in initial.values())
    )


def _call(stream: int, more: list[tuple[bytes, bytes]] | None = None) -> bytes:
    return http2.headers(stream, HEADERS + (more or []), 0)


def _data(stream: int, payload: bytes, flags: int = 0) -> bytes:
    frames = b""
    while len(payload) > http2.MAX_FRAME:
        frames += _frame(http2.DATA, stream, payload[: http2.MAX_FRAME])
        payload = payload[http2.MAX_FRAME :]
    return frames + _frame(http2.DATA, stream, payload, flags)


ACK = _frame(http2.SETTINGS, 0, b"", http2.ACK)
START = http2.PREFACE + _settings()
WHOLE_CALL = _call(1) + _data(1, WHOLE, http2.END_STREAM)


def _received(connection: socket.socket, wanted: bytes) -> bytes:
    """What comes until `wanted`, or until the end."""
    data = b""
    while wanted not in data and (block := connection.recv(1 << 16)):
        data += block
    return data


@contextmanager
def _between(tmp_path: Path) -> Iterator[tuple[socket.socket, socket.socket]]:
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
                    assert _received(upstream, START) == START
                    yield client, upstream
            assert (tmp_path / "guard.log").read_text() == ""
        finally:
            guard.stop()


def _passed(client: socket.socket, upstream: socket.socket, sent: bytes) -> bytes:
    client.sendall(sent + END)
    data = _received(upstream, END)
    assert END in data
    return data.partition(END)[0]


def _messages(data: bytes, stream: int) -> bytes:
    """What DATA frames of a stream hold."""
    splitter, found = http2.FrameSplitter(), b""
    for part in splitter.feed(data):
        if part.frame.kind == http2.DATA and part.frame.stream == stream:
            found += part.payload
    return found


def _ended(data: bytes) -> set[int]:
    """Streams whose trailers have begun."""
    parts = http2.FrameSplitter().feed(data)
    frames = [part.frame for part in parts if part.frame.kind == http2.HEADERS]
    return {frame.stream for frame in frames if frame.flags & http2.END_STREAM}


def _given_back(data: bytes) -> int:
    """Bytes that a client may send instead of others, on the connection."""
    updates = [part for part in http2.FrameSplitter().feed(data) if part.frame.kind == http2.WINDOW_UPDATE]
    assert {part.frame.stream for part in updates} <= {0}
    return sum(int.from_bytes(part.payload, "big") for part in updates)


def test_data_of_streams_that_were_never_opened_are_dropped_and_given_back(tmp_path: Path) -> None:
    pong = http2.pong(b"as known")
    with _between(tmp_path) as (client, upstream):
        lost = _data(999, bytes(300_000)) + _data(0, bytes(10)) + _data(4, b"x", http2.END_STREAM)
        assert _passed(client, upstream, lost + WHOLE_CALL) == WHOLE_CALL
        client.sendall(_frame(http2.PING, 0, b"as known"))
        assert _given_back(_received(client, pong)) == 300_011


def test_data_behind_an_answer_are_dropped_and_the_connection_serves_on(tmp_path: Path) -> None:
    """A server may answer before it has got all, and the client does not know that yet."""
    answer = http2.grpc_error(1, 12, "no")
    with _between(tmp_path) as (client, upstream):
        begun = _call(1) + _data(1, WHOLE[:-1])
        assert _passed(client, upstream, begun) == begun
        upstream.sendall(answer)
        _received(client, answer)
        other = _call(3) + _data(3, WHOLE, http2.END_STREAM)
        late = _data(1, bytes(200_000)) + _data(1, b"y", http2.END_STREAM)
        assert _passed(client, upstream, late + other) == other


def test_data_before_the_end_of_the_headers_are_dropped(tmp_path: Path) -> None:
    """The server does not know the stream yet."""
    block = _call(1)[http2.HEADER_BYTES :]
    parts = _frame(http2.HEADERS, 1, block), _frame(http2.CONTINUATION, 1, b"", http2.END_HEADERS)
    with _between(tmp_path) as (client, upstream):
        passed = _passed(client, upstream, parts[0] + _data(1, b"early") + parts[1] + _data(1, WHOLE))
        assert passed == _call(1) + _data(1, WHOLE)


def test_a_client_that_sends_beyond_the_window_is_cut_off_and_other_calls_are_finished(tmp_path: Path) -> None:
    message = b"\0" + (200_000).to_bytes(4, "big") + bytes(200_000)
    with _between(tmp_path) as (client, upstream):
        client.sendall(WHOLE_CALL + _call(3) + _data(3, message))
        finish = http2.more_window(1, 1 << 24) + http2.more_window(0, 1 << 24)
        passed = _received(upstream, finish)
        assert passed.startswith(WHOLE_CALL + _call(3))
        assert passed.endswith(finish)
        assert 0 < len(_messages(passed, 3)) <= INITIAL_BYTES - len(WHOLE)
        # The server is not cut off, so that it answers call 1.
        # A reset overtakes the reason where the guard has not read all.
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1 << 16) == http2.go_away(http2.FLOW_CONTROL_ERROR)
        upstream.settimeout(0.2)
        with pytest.raises(TimeoutError):
            upstream.recv(1)


def test_what_the_server_allows_is_passed(tmp_path: Path) -> None:
    message = b"\0" + (100_000).to_bytes(4, "big") + bytes(100_000)
    allowed = _settings(streams=99_000) + http2.more_window(0, 50_000)
    with _between(tmp_path) as (client, upstream):
        assert _passed(client, upstream, _call(1)) == _call(1)
        upstream.sendall(allowed + http2.more_window(1, 1005))
        _received(client, http2.more_window(1, 1005))
        # Confirmed in the end only: it counts when it is known.
        assert _messages(_passed(client, upstream, _data(1, message) + ACK), 1) == message


def test_no_more_settings_are_confirmed_than_the_server_has_sent(tmp_path: Path) -> None:
    with _between(tmp_path) as (client, upstream):
        assert _passed(client, upstream, ACK * 3) == b""
        upstream.sendall(_settings() + _settings(streams=70_000) + ACK)
        _received(client, ACK)
        assert _passed(client, upstream, ACK * 5) == ACK * 2


def test_headers_that_the_server_does_not_need_are_dropped(tmp_path: Path) -> None:
    tracing = [(b"traceparent", b"00-1-2-01"), (b"baggage", b"a=b"), (b"x-request-id", b"r" * 3000)]
    others = [(b"a-bin", b"!"), (b"grpc-timeout", b"1S"), (b"x-other", b"1"), (b"connection", b"close")]
    others += [(b"grpc-tags-bin", b"!"), (b":status", b"200"), (b"tracestate", b"a\xff"), (b"user-agent", b"a\nb")]
    with _between(tmp_path) as (client, upstream):
        assert _passed(client, upstream, _call(1, others + tracing + others)) == _call(1, tracing)


def test_compressed_headers_are_read_as_bytes() -> None:
    headers = [*HEADERS, (b"user-agent", b"grpc-python/1"), (b"a-bin", b"!")]
    block = hpack.Encoder().encode(headers)
    assert HeaderReader().decode(block, http2.END_HEADERS) == headers[:-1]


def test_calls_of_others_are_answered_whatever_one_sends(triton: LaunchedServer) -> None:
    """At such headers, and at so many bytes, Triton ended the connection, and with it all calls."""
    request = service_pb2.ModelInferRequest(model_name=TEXT)
    request.inputs.add(name="text", datatype="BYTES", shape=[1, 1])
    request.raw_input_contents.append(struct.pack("<I", 9) + b"red shoes")
    message = request.SerializeToString()
    body = b"\0" + len(message).to_bytes(4, "big") + message
    calls = {stream: _call(stream) + _data(stream, body, http2.END_STREAM) for stream in (1, 3, 5)}
    odd = _call(3, [(b"a-bin", b"!")]) + _data(3, body, http2.END_STREAM)
    port = int(triton.grpc_url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as connection:
        connection.sendall(START + calls[1] + _data(999, bytes(16 << 20)) + odd + ACK * 10 + calls[5])
        data = b""
        while _ended(data) != calls.keys() and (block := connection.recv(1 << 16)):
            data += block
    for stream in calls:
        assert b"embedding" in _messages(data, stream)


def _update(windows: SendWindows, raw: bytes) -> None:
    (part,) = http2.FrameSplitter().feed(raw)
    windows.update(part.frame, bytes(part.payload))


def test_a_stream_and_the_connection_have_windows() -> None:
    windows = SendWindows()
    windows.open(1)
    windows.open(3)
    assert not windows.take(1, INITIAL_BYTES + 1)
    assert windows.take(1, 60_000)
    # Of the connection there is less than of this stream.
    assert not windows.take(3, 5_536)
    assert windows.take(3, 5_535)
    _update(windows, http2.more_window(0, 10_000))
    assert windows.take(1, 5_535)
    assert not windows.take(1, 1)
    _update(windows, http2.more_window(1, 1))
    assert windows.take(1, 1)
    _update(windows, http2.more_window(7, 1000))
    assert not windows.take(1, 1)
    assert windows.take(1, 0)
    assert windows.take(3, 4_464)
    assert not windows.take(3, 1)


def test_a_window_shrinks_when_the_client_knows_of_it() -> None:
    windows = SendWindows()
    windows.open(1)
    _update(windows, http2.more_window(0, 1_000_000))
    _update(windows, _settings(streams=1000))
    assert windows.take(1, 2000)
    assert windows.confirm()
    assert not windows.confirm()
    # Beyond its end already, until as much is given.
    assert windows.take(1, 0)
    assert not windows.take(1, 1)
    _update(windows, http2.more_window(1, 1500))
    assert windows.take(1, 500)
    assert not windows.take(1, 1)
    windows.open(3)
    assert not windows.take(3, 1001)


def test_a_window_grows_at_once_and_the_last_setting_counts() -> None:
    windows = SendWindows()
    windows.open(1)
    _update(windows, http2.more_window(0, 1_000_000))
    _update(windows, _settings(first=70_000, last=80_000))
    # Others keep the size, and so do confirmations.
    _update(windows, _settings())
    windows.update(Frame(0, http2.SETTINGS, http2.ACK, 0, b""), b"")
    assert windows.take(1, 80_000)
    assert windows.confirm()
    assert windows.confirm()
    assert not windows.take(1, 1)
    assert not windows.confirm()
