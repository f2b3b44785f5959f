"""Frames of gRPC calls through the guard, byte by byte: what reaches Triton, and what does not."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from guarded_frames import (
    WAIT_S,
    WHOLE,
    WHOLE_CALL,
    begin_call,
    between,
    data_frames,
    infer_request,
    passed_between,
    passed_on,
    public_port,
    raw_frame,
    read_until,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.guard import http2_frames as http2
from serving.guard.grpc_streams import RESOURCE_EXHAUSTED, UNIMPLEMENTED, Stream
from serving.guard.refusal import Refusal
from serving.guard.settings import Limits
from serving.triton.launcher import LaunchedServer

WHOLE_CALL_3 = begin_call(3) + data_frames(3, WHOLE, http2.END_STREAM)


@pytest.fixture
def port(triton: LaunchedServer) -> int:
    return public_port(triton)


def test_nothing_of_a_refused_message_is_passed_on(tmp_path: Path) -> None:
    """In one frame with the end of the call neither: Triton would work on what is given up."""
    compressed = data_frames(1, b"\1" + WHOLE[1:], http2.END_STREAM)
    passed = passed_on(tmp_path, begin_call(1) + compressed + WHOLE_CALL_3)
    assert passed == begin_call(1) + http2.reset(1, http2.CANCEL) + WHOLE_CALL_3


def test_headers_after_a_message_end_their_call_as_they_should(tmp_path: Path) -> None:
    trailers = http2.headers(1, [(b"x", b"y")], http2.END_STREAM)
    passed = passed_on(tmp_path, begin_call(1) + data_frames(1, WHOLE) + trailers + begin_call(3))
    assert passed == begin_call(1) + data_frames(1, WHOLE) + data_frames(1, b"", http2.END_STREAM) + begin_call(3)


def test_a_whole_call_may_be_given_up_as_often_as_a_client_likes(tmp_path: Path) -> None:
    call = begin_call(1) + data_frames(1, WHOLE, http2.END_STREAM)
    passed = passed_on(tmp_path, call + http2.reset(1, http2.CANCEL) * 300)
    assert passed == call + http2.more_window(1, 1 << 24)


def test_a_call_whose_message_is_whole_is_ended_and_not_given_up(tmp_path: Path) -> None:
    """Triton works on it before it knows that nothing follows."""
    call = begin_call(1) + data_frames(1, WHOLE)
    passed = passed_on(tmp_path, call + http2.reset(1, http2.CANCEL) * 300)
    assert passed == call + data_frames(1, b"", http2.END_STREAM) + http2.more_window(1, 1 << 24)


def test_a_call_whose_message_is_not_whole_is_given_up(tmp_path: Path) -> None:
    call = begin_call(1) + data_frames(1, WHOLE[:-1])
    assert passed_on(tmp_path, call + http2.reset(1, http2.CANCEL)) == call + http2.reset(1, http2.CANCEL)


def test_a_second_message_of_a_call_is_refused(tmp_path: Path) -> None:
    passed = passed_on(tmp_path, begin_call(1) + data_frames(1, WHOLE * 2))
    assert passed == begin_call(1) + http2.reset(1, http2.CANCEL)


def test_pings_are_answered_by_the_guard(port: int) -> None:
    """Triton would end the connection after three, and with it the calls that it works on."""
    message = infer_request().SerializeToString()
    call = begin_call(1) + data_frames(1, b"\0" + len(message).to_bytes(4, "big") + message, http2.END_STREAM)
    pings = b"".join(raw_frame(http2.PING, 0, number.to_bytes(8, "big")) for number in range(100))
    settings = raw_frame(http2.SETTINGS, 0, b"")
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as connection:
        connection.sendall(http2.PREFACE + settings + pings + call + pings)
        # Those before the call are answered before it.
        received = read_until(connection, b"grpc-status")
    for number in range(100):
        assert http2.pong(number.to_bytes(8, "big")) in received
    assert b"embedding" in received


@pytest.mark.parametrize(
    "frame",
    [
        raw_frame(http2.WINDOW_UPDATE, 0, bytes(4)),
        raw_frame(http2.WINDOW_UPDATE, 1, b"\x80\0\0\0"),
        raw_frame(http2.WINDOW_UPDATE, 1, b"\0\1"),
        raw_frame(http2.SETTINGS, 0, b"\0\4\0"),
        raw_frame(http2.SETTINGS, 0, b"\0\4\xff\xff\xff\xff"),
        raw_frame(http2.SETTINGS, 0, b"\0\5\0\0\0\1"),
        raw_frame(http2.SETTINGS, 1, b""),
        raw_frame(http2.SETTINGS, 0, b"\0\4\0\0\0\1", http2.ACK),
        raw_frame(http2.SETTINGS, 0, bytes(6) * 200),
        raw_frame(http2.PING, 0, b"short"),
        raw_frame(http2.RST_STREAM, 1, b"\0"),
        raw_frame(http2.RST_STREAM, 0, bytes(4)),
    ],
)
@pytest.mark.parametrize("whole", [True, False])
def test_frames_at_which_triton_ends_a_connection_do_not_reach_it(
    frame: bytes, whole: bool, tmp_path: Path
) -> None:
    """The client's connection ends instead, and Triton computes what it has."""
    frame = frame if whole else frame[:-1]
    assert _passed_until_the_end(tmp_path, WHOLE_CALL + frame) == WHOLE_CALL


def test_frames_that_triton_has_no_use_for_are_dropped(tmp_path: Path) -> None:
    unused = (2, 1, bytes(5)), (5, 1, bytes(9)), (http2.GOAWAY, 0, bytes(8)), (10, 0, b"x"), (77, 5, b"y" * 70_000)
    settings = raw_frame(http2.SETTINGS, 0, b"\0\4\0\1\0\0\0\3\0\0\0\5")
    sent = b"".join(raw_frame(*frame) for frame in unused) + settings
    assert passed_on(tmp_path, sent) == settings


def test_large_frames_are_cut_to_what_every_server_takes(tmp_path: Path) -> None:
    message = b"\0" + (40_000).to_bytes(4, "big") + b"m" * 40_000
    passed = passed_on(tmp_path, begin_call(1) + raw_frame(http2.DATA, 1, message, http2.END_STREAM))
    place, found = len(begin_call(1)), b""
    while place < len(passed):
        length = int.from_bytes(passed[place : place + 3], "big")
        assert length <= http2.MAX_FRAME
        ends = passed[place + 4] & http2.END_STREAM
        found += passed[place + 9 : place + 9 + length]
        place += 9 + length
        assert bool(ends) == (place == len(passed))
    assert found == message


PADDED_FRAME = b"\0\0\x0a\0\x08\0\0\0\3" + bytes(10)


def test_calls_before_what_ends_the_connection_are_passed_on(tmp_path: Path) -> None:
    """They count as under way."""
    assert _passed_until_the_end(tmp_path, WHOLE_CALL + begin_call(3) + PADDED_FRAME) == WHOLE_CALL + begin_call(3)


@pytest.mark.parametrize(
    "more",
    [
        data_frames(1, WHOLE),
        data_frames(1, WHOLE, http2.END_STREAM),
        data_frames(1, WHOLE * 3) + data_frames(1, WHOLE) + data_frames(1, b"", http2.END_STREAM),
        data_frames(1, WHOLE) + http2.reset(1, http2.CANCEL),
    ],
    ids=["one", "the last", "several", "given up"],
)
def test_messages_behind_the_first_are_dropped(tmp_path: Path, more: bytes) -> None:
    """Triton may work on the first, and others call on the same connection: a proxy has one for many clients."""
    first = begin_call(1) + data_frames(1, WHOLE)
    passed = passed_on(tmp_path, first + more + WHOLE_CALL_3)
    window = http2.more_window(1, 1 << 24)
    expected = first + data_frames(1, b"", http2.END_STREAM) + WHOLE_CALL_3
    assert passed.replace(window, b"") == expected


def test_a_call_of_two_messages_is_answered_by_triton(port: int) -> None:
    message = infer_request().SerializeToString()
    data = data_frames(1, b"\0" + len(message).to_bytes(4, "big") + message)
    ping = raw_frame(http2.PING, 0, b"anything")
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as connection:
        connection.sendall(http2.PREFACE + raw_frame(http2.SETTINGS, 0, b"") + begin_call(1) + data)
        connection.sendall(data + data_frames(1, b"", http2.END_STREAM))
        assert b"embedding" in read_until(connection, b"grpc-status")
        connection.sendall(ping)
        read_until(connection, http2.pong(b"anything"))


def test_what_is_said_of_calls_that_the_server_does_not_have_is_dropped(tmp_path: Path) -> None:
    """Those that never began, are refused, or have been answered: many a client says a last word of these."""
    answer = http2.grpc_error(1, 12, "no")
    others = b"".join(http2.reset(number, http2.CANCEL) + http2.more_window(number, 1) for number in (2, 3, 999))
    refused = begin_call(5) + data_frames(5, b"\1" + WHOLE[1:])
    last_words = http2.more_window(1, 100) + http2.reset(1, http2.NO_ERROR)
    with between(tmp_path) as (client, upstream):
        assert passed_between(client, upstream, WHOLE_CALL + others) == WHOLE_CALL
        assert passed_between(client, upstream, http2.more_window(1, 7)) == http2.more_window(1, 7)
        upstream.sendall(answer)
        read_until(client, answer)
        assert passed_between(client, upstream, last_words + WHOLE_CALL_3) == WHOLE_CALL_3
        passed = passed_between(client, upstream, refused + http2.more_window(5, 1) + http2.reset(5, http2.CANCEL))
        assert passed == begin_call(5) + http2.reset(5, http2.CANCEL)


def _passed_until_the_end(tmp_path: Path, sent: bytes) -> bytes:
    """What a server behind a guard gets of it, before it is told to finish call 1.

    The guard ends the client's connection, or the client does when it has sent all.
    """
    end = http2.more_window(1, 1 << 24) + http2.more_window(0, 1 << 24)
    with between(tmp_path) as (client, upstream):
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        found = read_until(upstream, end)
        assert found.endswith(end)
        return found[: -len(end)]


def _frames(data: list[tuple[int, bytes]]) -> bytes:
    return b"".join(
        len(payload).to_bytes(3, "big") + bytes([kind, 0, 0, 0, 0, 1]) + payload for kind, payload in data
    )


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.binary(max_size=40)), max_size=8),
    st.lists(st.integers(1, 30), min_size=1, max_size=20),
)
def test_frames_are_cut_alike_wherever_the_bytes_are(data: list[tuple[int, bytes]], sizes: list[int]) -> None:
    raw, place, found, splitter = _frames(data), 0, [], http2.FrameSplitter()
    passed = b""
    while place < len(raw):
        size = sizes[place % len(sizes)]
        for part in splitter.feed(raw[place : place + size]):
            if part.first:
                passed += part.frame.raw
                found.append((part.frame.kind, b""))
            passed += bytes(part.payload)
            found[-1] = (part.frame.kind, found[-1][1] + bytes(part.payload))
        place += size
    assert passed == raw
    assert found == data
    assert splitter.at_border


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(1, 20))
def test_a_message_is_followed_wherever_it_is_cut(length: int, size: int) -> None:
    raw = b"\0" + length.to_bytes(4, "big") + bytes([1]) * length
    stream = Stream(0.0)
    for place in range(0, len(raw), size):
        assert not stream.message_is_whole
        stream.scan(memoryview(raw)[place : place + size], Limits())
    assert stream.declared == len(raw)
    assert stream.message_is_whole
    with pytest.raises(Refusal, match="several messages"):
        stream.scan(memoryview(raw), Limits())


@pytest.mark.parametrize(
    ("message", "status"),
    [(b"\1\0\0\0\1x", UNIMPLEMENTED), (b"\0\0\0\1\0x", RESOURCE_EXHAUSTED), (b"\0\0\0\0\2xx\0", UNIMPLEMENTED)],
)
def test_messages_out_of_bounds_are_refused_by_their_prefix(message: bytes, status: int) -> None:
    with pytest.raises(Refusal) as refusal:
        Stream(0.0).scan(memoryview(message), Limits(body_bytes=200))
    assert refusal.value.status == status
