"""gRPC through the guard: calls pass as they are, and those out of bounds are refused one by one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2, service_pb2_grpc

from serving.guard import http2_frames as http2
from serving.guard.door import SWEEP_S, Door
from serving.guard.grpc_headers import check_method
from serving.guard.grpc_streams import RESOURCE_EXHAUSTED, UNIMPLEMENTED, Stream
from serving.guard.refusal import Refusal
from serving.guard.settings import Limits, Settings, State
from serving.triton.guarding import Guard
from serving.triton.launcher import LaunchedServer
from serving.triton.ports import listen, port_of

TEXT = "tiny_012345_text"
INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
MB = 1_000_000
WAIT_S = 60.0


def _request(text: bytes = b"red shoes") -> Any:
    request = service_pb2.ModelInferRequest(model_name=TEXT)
    request.inputs.add(name="text", datatype="BYTES", shape=[1, 1])
    request.raw_input_contents.append(struct.pack("<I", len(text)) + text)
    request.outputs.add(name="embedding")
    return request


@contextmanager
def _channel(port: int) -> Iterator[grpc.Channel]:
    # A connection of its own, not one that another channel to the port has.
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        yield channel


def _infer(channel: grpc.Channel, text: bytes = b"red shoes", **options: Any) -> bytes:
    answer = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(
        _request(text), timeout=WAIT_S, **options
    )
    return bytes(answer.raw_output_contents[0])


def _refusal(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as error:
        call()
    return error.value.code(), error.value.details()


def _own_ports(server: LaunchedServer) -> tuple[int, int]:
    """Those that Triton itself listens on, for HTTP and gRPC."""
    arguments = Path(f"/proc/{server.pid}/cmdline").read_bytes().decode().split("\0")
    values = dict(argument.partition("=")[::2] for argument in arguments)
    return int(values["--http-port"]), int(values["--grpc-port"])


@contextmanager
def _guarded(server: LaunchedServer, tmp_path: Path, **limits: Any) -> Iterator[int]:
    """A guard of its own before the server, and its port for gRPC."""
    http, grpc_ = (listen("127.0.0.1", 0, f"--{kind}-port") for kind in ("http", "grpc"))
    settings = Settings(http.fileno(), grpc_.fileno(), {TEXT: 64}, (), Limits(**limits))
    guard = Guard(settings, (http, grpc_), tmp_path / "guard.log")
    try:
        guard.tell(State(*_own_ports(server), True, ""))
        yield port_of(grpc_)
        assert (tmp_path / "guard.log").read_text() == ""
    finally:
        guard.stop()


@pytest.fixture
def port(triton: LaunchedServer) -> int:
    """The public port for gRPC."""
    return int(triton.grpc_url.rsplit(":", 1)[1])


def test_answers_are_triton_s_own(triton: LaunchedServer, port: int) -> None:
    assert port != _own_ports(triton)[1]
    with _channel(port) as guarded, _channel(_own_ports(triton)[1]) as direct:
        assert _infer(guarded) == _infer(direct)
        # Triton's reasons pass as well.
        unknown = [
            _refusal(
                lambda channel=channel: service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelConfig(
                    service_pb2.ModelConfigRequest(name="x")
                )
            )
            for channel in (guarded, direct)
        ]
        assert unknown[0] == unknown[1]


def test_a_message_too_long_is_refused_and_its_connection_serves_on(port: int) -> None:
    with _channel(port) as channel:
        before = _infer(channel)
        for _ in range(4):
            assert _refusal(lambda: _infer(channel, b"a" * (100 * MB))) == (
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "more than 75497472 bytes in a call: send fewer items at once",
            )
        # What was dropped does not count: the connection's window is as large as before.
        assert _infer(channel, b"a" * (8 * MB))
        assert _infer(channel) == before


def test_compressed_messages_are_refused(port: int) -> None:
    with _channel(port) as channel:
        call = lambda: _infer(channel, b"a" * MB, compression=grpc.Compression.Gzip)  # noqa: E731
        assert _refusal(call) == (
            grpc.StatusCode.UNIMPLEMENTED,
            "compressed messages are not taken: send them as they are",
        )
        assert _infer(channel)


def test_many_calls_at_once_on_one_connection(port: int) -> None:
    with _channel(port) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        texts = [b"text %d " % number * (1 + number % 5 * 1000) for number in range(60)]
        want = [_infer(channel, text) for text in texts]
        calls = [stub.ModelInfer.future(_request(text), timeout=WAIT_S) for text in texts]
        answers = [bytes(call.result().raw_output_contents[0]) for call in calls]
    # Rows of a batch differ from rows alone in the last digits.
    vectors = [[np.frombuffer(data, np.float32) for data in each] for each in (answers, want)]
    assert np.allclose(*vectors, atol=1e-5)
    assert len(set(want)) > 10


def _begin(*streams: int) -> bytes:
    """A connection's first bytes, with the headers of calls whose messages do not follow."""
    headers = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", INFER.encode()), (b":authority", b"x")]
    headers += [(b"te", b"trailers"), (b"content-type", b"application/grpc")]
    settings = bytes([0, 0, 0, http2.SETTINGS, 0, 0, 0, 0, 0])
    return http2.PREFACE + settings + b"".join(http2.headers(stream, headers, 0) for stream in streams)


def _received(connection: socket.socket, wanted: bytes) -> bytes:
    """What comes until `wanted`, or until the end."""
    data = b""
    while wanted not in data and (block := connection.recv(1 << 16)):
        data += block
    return data


def test_too_many_calls_on_one_connection(triton: LaunchedServer, tmp_path: Path) -> None:
    reason = b"too many calls at once on one connection"
    with _guarded(triton, tmp_path, calls_per_connection=3) as port:
        with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as connection:
            connection.sendall(_begin(1, 3, 5, 7))
            assert reason in _received(connection, reason)
        with _channel(port) as channel:
            assert _infer(channel)


def test_calls_in_streams_and_unknown_methods_are_refused(port: int) -> None:
    with _channel(port) as channel:
        for _ in range(3):
            stream = channel.stream_stream(STREAM)(iter([_request().SerializeToString()] * 3), timeout=WAIT_S)
            assert _refusal(lambda stream=stream: list(stream))[0] == grpc.StatusCode.UNIMPLEMENTED
            assert _refusal(lambda: channel.unary_unary("/x/Y")(b"", timeout=WAIT_S)) == (
                grpc.StatusCode.UNIMPLEMENTED,
                "this method is not served here, or it is not allowed",
            )
            assert _infer(channel)


def test_headers_of_any_length_pass(port: int) -> None:
    with _channel(port) as channel:
        for length in (0, 1, 126, 127, 128, 254, 255, 256, 3000):
            assert _infer(channel, metadata=[("x-request-id", "a" * length), ("y-bin", bytes(length))])


def test_a_call_that_comes_too_slowly_is_ended(triton: LaunchedServer, tmp_path: Path) -> None:
    limits = {"header_s": 0.2, "body_s": 0.2, "body_bytes_per_s": 1 << 30}
    with (
        _guarded(triton, tmp_path, **limits) as port,
        socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as connection,
    ):
        connection.sendall(_begin(1))
        assert _received(connection, b"never").endswith(http2.go_away(http2.NO_ERROR))
    # With these limits a slow machine would be ended as well.
    with _guarded(triton, tmp_path) as port, _channel(port) as channel:
        assert _infer(channel)


def test_calls_that_are_given_up_are_computed_to_their_end(triton: LaunchedServer, tmp_path: Path) -> None:
    """Triton never learns of it: it was seen to end where calls it worked on were given up.

    This guard has no table by which models could learn of it.
    """
    message = _request().SerializeToString()
    data = b"\0" + len(message).to_bytes(4, "big") + message
    call = len(data).to_bytes(3, "big") + bytes([http2.DATA, http2.END_STREAM, 0, 0, 0, 1]) + data
    before = _served(triton)
    with _guarded(triton, tmp_path) as port:
        for ending in (http2.reset(1, http2.CANCEL), b"") * 10:
            with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as connection:
                connection.sendall(_begin(1) + call + ending)
                # Triton's settings: the call has reached it.
                assert connection.recv(9)
        deadline = time.monotonic() + WAIT_S
        while (count := _served(triton) - before) < 20 and time.monotonic() < deadline:
            time.sleep(0.05)
    # Others may use the server meanwhile.
    assert count >= 20


def test_a_call_whose_answer_nobody_takes_is_ended(triton: LaunchedServer, tmp_path: Path) -> None:
    """Its message counts as held until then."""
    no_window = bytes([0, 0, 6, http2.SETTINGS, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0])
    message = _request().SerializeToString()
    data = _data(1, b"\0" + len(message).to_bytes(4, "big") + message, http2.END_STREAM)
    with (
        _guarded(triton, tmp_path, answer_s=1.0) as port,
        socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as connection,
    ):
        connection.sendall(http2.PREFACE + no_window + _call(1) + data)
        assert _received(connection, b"never").endswith(http2.go_away(http2.NO_ERROR))


def _served(server: LaunchedServer) -> int:
    """Requests for text that went through so far."""
    web = HTTPConnection(server.http_url.removeprefix("http://"), timeout=WAIT_S)
    web.request("GET", f"/v2/models/{TEXT}/stats")
    (model,) = json.loads(web.getresponse().read())["model_stats"]
    web.close()
    return int(model["inference_stats"]["success"]["count"])


def test_bodies_of_all_calls_together_are_bounded(triton: LaunchedServer, tmp_path: Path) -> None:
    with _guarded(triton, tmp_path, buffered_bytes=MB) as port, _channel(port) as channel:
        assert _refusal(lambda: _infer(channel, b"a" * (2 * MB))) == (
            grpc.StatusCode.UNAVAILABLE,
            "the server holds too many requests: come back later",
        )
        for _ in range(5):
            assert _infer(channel, b"a" * (MB // 2))


def test_headers_without_end_and_given_up_calls_end_their_connection_only(port: int) -> None:
    with _channel(port) as channel, _channel(port) as other:
        assert _infer(other)
        assert _refusal(lambda: _infer(channel, metadata=[("x", "a" * 40_000)]))[0] in (
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.RESOURCE_EXHAUSTED,
        )
        assert _infer(other)


def test_what_is_no_grpc_ends_its_connection(port: int) -> None:
    web = HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
    web.request("GET", "/v2/health/ready")
    answer = web.getresponse()
    assert (answer.status, answer.read()) == (400, b'{"error": "this is the port for gRPC"}')
    web.close()
    noise = random.Random(0).randbytes
    for data in (
        b"\x16\x03\x01\x02\x00\x01\x00" + noise(500),
        http2.PREFACE + noise(100_000),
        http2.PREFACE + b"\0\0\0\4\0\0\0\0\0" + noise(1000),
        # A padded DATA frame, which no gRPC sends.
        http2.PREFACE + b"\0\0\0\4\0\0\0\0\0" + b"\0\0\x0a\0\x08\0\0\0\1" + bytes(10),
        # Header blocks that go on and on.
        http2.PREFACE
        + b"\0\0\0\4\0\0\0\0\0"
        + b"\0\x3f\xff\1\0\0\0\0\1"
        + bytes(16383)
        + (b"\0\x3f\xff\x09\0\0\0\0\1" + bytes(16383)) * 2,
    ):
        with (
            socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as connection,
            contextlib.suppress(ConnectionError),
        ):
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(1 << 16):
                pass
    with _channel(port) as channel:
        assert _infer(channel)


def _passed_on(tmp_path: Path, sent: bytes) -> bytes:
    """What a server behind a guard gets of it, after settings; the client goes when it has sent all."""
    start = http2.PREFACE + bytes([0, 0, 0, http2.SETTINGS, 0, 0, 0, 0, 0])
    with socket.create_server(("127.0.0.1", 0)) as server:
        http, grpc_ = (listen("127.0.0.1", 0, f"--{kind}-port") for kind in ("http", "grpc"))
        guard = Guard(Settings(http.fileno(), grpc_.fileno(), {TEXT: 64}), (http, grpc_), tmp_path / "guard.log")
        try:
            guard.tell(State(0, server.getsockname()[1], True, ""))
            with socket.create_connection(("127.0.0.1", port_of(grpc_)), timeout=WAIT_S) as client:
                client.sendall(start)
                server.settimeout(WAIT_S)
                upstream, _ = server.accept()
                with upstream:
                    upstream.settimeout(WAIT_S)
                    # In one piece, now that the guard does not wait for the server.
                    assert _received(upstream, start) == start
                    client.sendall(sent)
                    data = _received(upstream, END)
            assert END in data
            assert (tmp_path / "guard.log").read_text() == ""
            return data.partition(END)[0]
        finally:
            guard.stop()


END = http2.more_window(0, 0xABCDEF)
"""Passes as it is."""
WHOLE = b"\0\0\0\0\2xy"


def _data(stream: int, payload: bytes, flags: int = 0) -> bytes:
    return http2.data_header(stream, len(payload), flags) + payload


def _call(stream: int) -> bytes:
    return _begin(stream).partition(bytes([0, 0, 0, http2.SETTINGS, 0, 0, 0, 0, 0]))[2]


def test_nothing_of_a_refused_message_is_passed_on(tmp_path: Path) -> None:
    """In one frame with the end of the call neither: Triton would work on what is given up."""
    compressed = _data(1, b"\1" + WHOLE[1:], http2.END_STREAM)
    passed = _passed_on(tmp_path, _call(1) + compressed + _call(3) + _data(3, WHOLE, http2.END_STREAM) + END)
    assert passed == _call(1) + http2.reset(1, http2.CANCEL) + _call(3) + _data(3, WHOLE, http2.END_STREAM)


def test_headers_after_a_message_end_their_call_as_they_should(tmp_path: Path) -> None:
    trailers = http2.headers(1, [(b"x", b"y")], http2.END_STREAM)
    passed = _passed_on(tmp_path, _call(1) + _data(1, WHOLE) + trailers + _call(3) + END)
    assert passed == _call(1) + _data(1, WHOLE) + _data(1, b"", http2.END_STREAM) + _call(3)


def test_a_whole_call_may_be_given_up_as_often_as_a_client_likes(tmp_path: Path) -> None:
    call = _call(1) + _data(1, WHOLE, http2.END_STREAM)
    passed = _passed_on(tmp_path, call + http2.reset(1, http2.CANCEL) * 300 + END)
    assert passed == call + http2.more_window(1, 1 << 24)


def test_a_call_whose_message_is_whole_is_ended_and_not_given_up(tmp_path: Path) -> None:
    """Triton works on it before it knows that nothing follows."""
    call = _call(1) + _data(1, WHOLE)
    passed = _passed_on(tmp_path, call + http2.reset(1, http2.CANCEL) * 300 + END)
    assert passed == call + _data(1, b"", http2.END_STREAM) + http2.more_window(1, 1 << 24)


def test_a_call_whose_message_is_not_whole_is_given_up(tmp_path: Path) -> None:
    call = _call(1) + _data(1, WHOLE[:-1])
    assert _passed_on(tmp_path, call + http2.reset(1, http2.CANCEL) + END) == call + http2.reset(1, http2.CANCEL)


def test_a_second_message_of_a_call_is_refused(tmp_path: Path) -> None:
    passed = _passed_on(tmp_path, _call(1) + _data(1, WHOLE * 2) + END)
    assert passed == _call(1) + http2.reset(1, http2.CANCEL)


WHOLE_CALL = _call(1) + _data(1, WHOLE, http2.END_STREAM)
WHOLE_CALL_3 = _call(3) + _data(3, WHOLE, http2.END_STREAM)


def _control(kind: int, stream: int, payload: bytes, flags: int = 0) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def test_pings_are_answered_by_the_guard(port: int) -> None:
    """Triton would end the connection after three, and with it the calls that it works on."""
    message = _request().SerializeToString()
    call = _call(1) + _data(1, b"\0" + len(message).to_bytes(4, "big") + message, http2.END_STREAM)
    pings = b"".join(_control(http2.PING, 0, number.to_bytes(8, "big")) for number in range(100))
    settings = _control(http2.SETTINGS, 0, b"")
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as connection:
        connection.sendall(http2.PREFACE + settings + pings + call + pings)
        # Those before the call are answered before it.
        received = _received(connection, b"grpc-status")
    for number in range(100):
        assert http2.pong(number.to_bytes(8, "big")) in received
    assert b"embedding" in received


@pytest.mark.parametrize(
    "frame",
    [
        _control(http2.WINDOW_UPDATE, 0, bytes(4)),
        _control(http2.WINDOW_UPDATE, 1, b"\x80\0\0\0"),
        _control(http2.WINDOW_UPDATE, 1, b"\0\1"),
        _control(http2.SETTINGS, 0, b"\0\4\0"),
        _control(http2.SETTINGS, 0, b"\0\4\xff\xff\xff\xff"),
        _control(http2.SETTINGS, 0, b"\0\5\0\0\0\1"),
        _control(http2.SETTINGS, 1, b""),
        _control(http2.SETTINGS, 0, b"\0\4\0\0\0\1", http2.ACK),
        _control(http2.SETTINGS, 0, bytes(6) * 200),
        _control(http2.PING, 0, b"short"),
        _control(http2.RST_STREAM, 1, b"\0"),
        _control(http2.RST_STREAM, 0, bytes(4)),
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
    settings = _control(http2.SETTINGS, 0, b"\0\4\0\1\0\0\0\3\0\0\0\5")
    sent = b"".join(_control(*frame) for frame in unused) + settings
    assert _passed_on(tmp_path, sent + END) == settings


def test_large_frames_are_cut_to_what_every_server_takes(tmp_path: Path) -> None:
    message = b"\0" + (40_000).to_bytes(4, "big") + b"m" * 40_000
    passed = _passed_on(tmp_path, _call(1) + _data(1, message, http2.END_STREAM) + END)
    place, found = len(_call(1)), b""
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
    assert _passed_until_the_end(tmp_path, WHOLE_CALL + _call(3) + PADDED_FRAME) == WHOLE_CALL + _call(3)


@pytest.mark.parametrize(
    "more",
    [
        _data(1, WHOLE),
        _data(1, WHOLE, http2.END_STREAM),
        _data(1, WHOLE * 3) + _data(1, WHOLE) + _data(1, b"", http2.END_STREAM),
        _data(1, WHOLE) + http2.reset(1, http2.CANCEL),
    ],
    ids=["one", "the last", "several", "given up"],
)
def test_messages_behind_the_first_are_dropped(tmp_path: Path, more: bytes) -> None:
    """Triton may work on the first, and others call on the same connection: a proxy has one for many clients."""
    first = _call(1) + _data(1, WHOLE)
    passed = _passed_on(tmp_path, first + more + WHOLE_CALL_3 + END)
    window = http2.more_window(1, 1 << 24)
    expected = first + _data(1, b"", http2.END_STREAM) + WHOLE_CALL_3
    assert passed.replace(window, b"") == expected


def test_a_call_of_two_messages_is_answered_by_triton(port: int) -> None:
    message = _request().SerializeToString()
    data = _data(1, b"\0" + len(message).to_bytes(4, "big") + message)
    ping = _control(http2.PING, 0, b"anything")
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as connection:
        connection.sendall(http2.PREFACE + _control(http2.SETTINGS, 0, b"") + _call(1) + data)
        connection.sendall(data + _data(1, b"", http2.END_STREAM))
        assert b"embedding" in _received(connection, b"grpc-status")
        connection.sendall(ping)
        _received(connection, http2.pong(b"anything"))


def _passed_until_the_end(tmp_path: Path, sent: bytes) -> bytes:
    """What a server behind a guard gets of it, after settings and before it is told to finish call 1.

    The guard ends the client's connection, or the client does when it has sent all.
    """
    start = http2.PREFACE + bytes([0, 0, 0, http2.SETTINGS, 0, 0, 0, 0, 0])
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(WAIT_S)
        http, grpc_ = (listen("127.0.0.1", 0, f"--{kind}-port") for kind in ("http", "grpc"))
        guard = Guard(Settings(http.fileno(), grpc_.fileno(), {TEXT: 64}), (http, grpc_), tmp_path / "guard.log")
        try:
            guard.tell(State(0, server.getsockname()[1], True, ""))
            with socket.create_connection(("127.0.0.1", port_of(grpc_)), timeout=WAIT_S) as client:
                client.sendall(start + sent)
                upstream, _ = server.accept()
                client.shutdown(socket.SHUT_WR)
                with upstream:
                    upstream.settimeout(WAIT_S)
                    end = http2.more_window(1, 1 << 24) + http2.more_window(0, 1 << 24)
                    received = _received(upstream, end)
                    assert received.startswith(start)
                    assert received.endswith(end)
                    return received[len(start) : -len(end)]
        finally:
            guard.stop()


def test_a_call_has_one_path() -> None:
    path = (b":path", INFER.encode())
    assert check_method([path]) is None
    for headers in ([path, path], [path, (b":path", b"/x/Y")], [(b":path", b"/x/Y"), path]):
        refusal = check_method(headers)
        assert refusal is not None
        assert refusal.status == UNIMPLEMENTED


def test_a_connection_that_can_t_be_ended_does_not_keep_others(caplog: pytest.LogCaptureFixture) -> None:
    class Connection:
        deadline_s: float | None = 0.0

        def __init__(self, expire: Callable[[], None]) -> None:
            self.expire = expire

    async def swept() -> None:
        door, ended = Door(Settings(0, 0, {}), asyncio.get_running_loop()), asyncio.Event()

        def fail() -> None:
            raise RuntimeError("of one")

        for expire in (fail, fail):
            door.enter(Connection(expire))
        sweep = asyncio.create_task(door.sweep())
        await asyncio.sleep(0)
        door.enter(later := Connection(ended.set))
        later.deadline_s = door.now() + SWEEP_S + 0.1
        await asyncio.wait_for(ended.wait(), WAIT_S)
        sweep.cancel()

    asyncio.run(swept())
    assert caplog.text.count("of one") >= 2


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
