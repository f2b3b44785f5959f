"""What would end the guard's connection to Triton, and with it other calls, does not reach Triton."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

import hpack
import pytest
from guarded_frames import (
    ACK,
    HEADERS,
    START,
    WAIT_S,
    WHOLE,
    WHOLE_CALL,
    begin_call,
    between,
    data_frames,
    infer_request,
    passed_between,
    public_port,
    raw_frame,
    read_until,
    settings_frame,
)

from serving.guard import http2_frames as http2
from serving.guard.grpc_headers import HeaderReader
from serving.guard.http2_frames import Frame
from serving.guard.windows import INITIAL_BYTES, SendWindows
from serving.triton.launcher import LaunchedServer


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
    with between(tmp_path) as (client, upstream):
        lost = (
            data_frames(999, bytes(300_000)) + data_frames(0, bytes(10)) + data_frames(4, b"x", http2.END_STREAM)
        )
        assert passed_between(client, upstream, lost + WHOLE_CALL) == WHOLE_CALL
        client.sendall(raw_frame(http2.PING, 0, b"as known"))
        assert _given_back(read_until(client, pong)) == 300_011


def test_data_behind_an_answer_are_dropped_and_the_connection_serves_on(tmp_path: Path) -> None:
    """A server may answer before it has got all, and the client does not know that yet."""
    answer = http2.grpc_error(1, 12, "no")
    with between(tmp_path) as (client, upstream):
        begun = begin_call(1) + data_frames(1, WHOLE[:-1])
        assert passed_between(client, upstream, begun) == begun
        upstream.sendall(answer)
        read_until(client, answer)
        other = begin_call(3) + data_frames(3, WHOLE, http2.END_STREAM)
        late = data_frames(1, bytes(200_000)) + data_frames(1, b"y", http2.END_STREAM)
        assert passed_between(client, upstream, late + other) == other


def test_data_before_the_end_of_the_headers_are_dropped(tmp_path: Path) -> None:
    """The server does not know the stream yet."""
    block = begin_call(1)[http2.HEADER_BYTES :]
    parts = raw_frame(http2.HEADERS, 1, block), raw_frame(http2.CONTINUATION, 1, b"", http2.END_HEADERS)
    with between(tmp_path) as (client, upstream):
        passed = passed_between(
            client, upstream, parts[0] + data_frames(1, b"early") + parts[1] + data_frames(1, WHOLE)
        )
        assert passed == begin_call(1) + data_frames(1, WHOLE)


def test_a_client_that_sends_beyond_the_window_is_cut_off_and_other_calls_are_finished(tmp_path: Path) -> None:
    message = b"\0" + (200_000).to_bytes(4, "big") + bytes(200_000)
    with between(tmp_path) as (client, upstream):
        client.sendall(WHOLE_CALL + begin_call(3) + data_frames(3, message))
        finish = http2.more_window(1, 1 << 24) + http2.more_window(0, 1 << 24)
        passed = read_until(upstream, finish)
        assert passed.startswith(WHOLE_CALL + begin_call(3))
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
    allowed = settings_frame(streams=99_000) + http2.more_window(0, 50_000)
    with between(tmp_path) as (client, upstream):
        assert passed_between(client, upstream, begin_call(1)) == begin_call(1)
        upstream.sendall(allowed + http2.more_window(1, 1005))
        read_until(client, http2.more_window(1, 1005))
        # Confirmed in the end only: it counts when it is known.
        assert _messages(passed_between(client, upstream, data_frames(1, message) + ACK), 1) == message


def test_no_more_settings_are_confirmed_than_the_server_has_sent(tmp_path: Path) -> None:
    with between(tmp_path) as (client, upstream):
        assert passed_between(client, upstream, ACK * 3) == b""
        upstream.sendall(settings_frame() + settings_frame(streams=70_000) + ACK)
        read_until(client, ACK)
        assert passed_between(client, upstream, ACK * 5) == ACK * 2


def test_headers_that_the_server_does_not_need_are_dropped(tmp_path: Path) -> None:
    tracing = [(b"traceparent", b"00-1-2-01"), (b"baggage", b"a=b"), (b"x-request-id", b"r" * 3000)]
    others = [(b"a-bin", b"!"), (b"grpc-timeout", b"1S"), (b"x-other", b"1"), (b"connection", b"close")]
    others += [(b"grpc-tags-bin", b"!"), (b":status", b"200"), (b"tracestate", b"a\xff"), (b"user-agent", b"a\nb")]
    with between(tmp_path) as (client, upstream):
        assert passed_between(client, upstream, begin_call(1, others + tracing + others)) == begin_call(1, tracing)


def test_compressed_headers_are_read_as_bytes() -> None:
    headers = [*HEADERS, (b"user-agent", b"grpc-python/1"), (b"a-bin", b"!")]
    block = hpack.Encoder().encode(headers)
    assert HeaderReader().decode(block, http2.END_HEADERS) == headers[:-1]


def test_calls_of_others_are_answered_whatever_one_sends(triton: LaunchedServer) -> None:
    """At such headers, and at so many bytes, Triton ended the connection, and with it all calls."""
    message = infer_request().SerializeToString()
    body = b"\0" + len(message).to_bytes(4, "big") + message
    calls = {stream: begin_call(stream) + data_frames(stream, body, http2.END_STREAM) for stream in (1, 3, 5)}
    odd = begin_call(3, [(b"a-bin", b"!")]) + data_frames(3, body, http2.END_STREAM)
    with socket.create_connection(("127.0.0.1", public_port(triton)), timeout=WAIT_S) as connection:
        connection.sendall(START + calls[1] + data_frames(999, bytes(16 << 20)) + odd + ACK * 10 + calls[5])
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
    _update(windows, settings_frame(streams=1000))
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
    _update(windows, settings_frame(first=70_000, last=80_000))
    # Others keep the size, and so do confirmations.
    _update(windows, settings_frame())
    windows.update(Frame(0, http2.SETTINGS, http2.ACK, 0, b""), b"")
    assert windows.take(1, 80_000)
    assert windows.confirm()
    assert windows.confirm()
    assert not windows.take(1, 1)
    assert not windows.confirm()
