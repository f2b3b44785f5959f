"""gRPC through the guard: calls pass as they are, and those out of bounds are refused one by one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from guarded_frames import (
    INFER,
    START,
    TEXT,
    WAIT_S,
    begin_call,
    data_frames,
    infer_request,
    public_port,
    read_until,
)
from tritonclient.grpc import service_pb2, service_pb2_grpc

from serving.guard import http2_frames as http2
from serving.guard.door import SWEEP_S, Door
from serving.guard.grpc_headers import check_method
from serving.guard.grpc_streams import UNIMPLEMENTED
from serving.guard.settings import Limits, Settings, State
from serving.triton.guarding import Guard
from serving.triton.launcher import LaunchedServer
from serving.triton.ports import listen, port_of

STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
MB = 1_000_000


@contextmanager
def _channel(port: int) -> Iterator[grpc.Channel]:
    # A connection of its own, not one that another channel to the port has.
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        yield channel


def _infer(channel: grpc.Channel, text: bytes = b"red shoes", **options: Any) -> bytes:
    answer = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(
        infer_request(text), timeout=WAIT_S, **options
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
    return public_port(triton)


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
        calls = [stub.ModelInfer.future(infer_request(text), timeout=WAIT_S) for text in texts]
        answers = [bytes(call.result().raw_output_contents[0]) for call in calls]
    # Rows of a batch differ from rows alone in the last digits.
    vectors = [[np.frombuffer(data, np.float32) for data in each] for each in (answers, want)]
    assert np.allclose(*vectors, atol=1e-5)
    assert len(set(want)) > 10


def test_too_many_calls_on_one_connection(triton: LaunchedServer, tmp_path: Path) -> None:
    reason = b"too many calls at once on one connection"
    with _guarded(triton, tmp_path, calls_per_connection=3) as port:
        with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as connection:
            connection.sendall(START + begin_call(1) + begin_call(3) + begin_call(5) + begin_call(7))
            assert reason in read_until(connection, reason)
        with _channel(port) as channel:
            assert _infer(channel)


def test_calls_in_streams_and_unknown_methods_are_refused(port: int) -> None:
    with _channel(port) as channel:
        for _ in range(3):
            stream = channel.stream_stream(STREAM)(iter([infer_request().SerializeToString()] * 3), timeout=WAIT_S)
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
        connection.sendall(START + begin_call(1))
        assert read_until(connection, b"never").endswith(http2.go_away(http2.NO_ERROR))
    # With these limits a slow machine would be ended as well.
    with _guarded(triton, tmp_path) as port, _channel(port) as channel:
        assert _infer(channel)


def test_calls_that_are_given_up_are_computed_to_their_end(triton: LaunchedServer, tmp_path: Path) -> None:
    """Triton never learns of it: it was seen to end where calls it worked on were given up.

    This guard has no table by which models could learn of it.
    """
    message = infer_request().SerializeToString()
    data = b"\0" + len(message).to_bytes(4, "big") + message
    call = len(data).to_bytes(3, "big") + bytes([http2.DATA, http2.END_STREAM, 0, 0, 0, 1]) + data
    before = _served(triton)
    with _guarded(triton, tmp_path) as port:
        for ending in (http2.reset(1, http2.CANCEL), b"") * 10:
            with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as connection:
                connection.sendall(START + begin_call(1) + call + ending)
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
    message = infer_request().SerializeToString()
    data = data_frames(1, b"\0" + len(message).to_bytes(4, "big") + message, http2.END_STREAM)
    with (
        _guarded(triton, tmp_path, answer_s=1.0) as port,
        socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as connection,
    ):
        connection.sendall(http2.PREFACE + no_window + begin_call(1) + data)
        assert read_until(connection, b"never").endswith(http2.go_away(http2.NO_ERROR))


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
