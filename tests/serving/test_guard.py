"""What the guard lets through to a real server, and what it answers itself."""

from __future__ import annotations

import gzip
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import pytest
from misbehaving_servers import http_server
from misbehaving_servers import send as answer_with

from serving.guard.http_connection import LINGER_S
from serving.guard.settings import Limits, Settings, State
from serving.triton.guarding import Guard
from serving.triton.launcher import LaunchedServer
from serving.triton.ports import listen, port_of

TEXT = "/v2/models/tiny_012345_text/infer"
REQUEST = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1, 1], "data": ["red shoes"]}]}
BODY = json.dumps(REQUEST).encode()
Answer = tuple[int, dict[str, str], Any]


def _read(connection: socket.socket) -> Answer:
    response = HTTPResponse(connection)
    response.begin()
    body = response.read()
    return response.status, dict(response.getheaders()), json.loads(body) if body else None


def _head(method: str, path: str, *headers: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()


def _post(path: str, body: bytes, *headers: str) -> bytes:
    return _head("POST", path, f"Content-Length: {len(body)}", *headers) + body


def _chunked(path: str, chunks: list[bytes]) -> bytes:
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in [*chunks, b""])
    return _head("POST", path, "Transfer-Encoding: chunked") + body


@contextmanager
def _connected(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        yield connection


def _port(server: LaunchedServer) -> int:
    return int(server.http_url.rsplit(":", 1)[1])


def _own_port(server: LaunchedServer) -> int:
    """The port that Triton itself listens on, which is not given out."""
    arguments = Path(f"/proc/{server.pid}/cmdline").read_bytes().decode().split("\0")
    return int(next(value for value in arguments if value.startswith("--http-port=")).partition("=")[2])


@pytest.fixture
def send(triton: LaunchedServer) -> Callable[[bytes], Answer]:
    """Sends bytes on a new connection and gives the answer."""

    def sent(data: bytes) -> Answer:
        with _connected(_port(triton)) as connection:
            connection.sendall(data)
            return _read(connection)

    return sent


@pytest.fixture
def embedding(send: Callable[[bytes], Answer]) -> Any:
    """What the server answers to a usual request."""
    status, _, answer = send(_post(TEXT, BODY))
    assert status == 200
    return _embedding(answer)


def _embedding(answer: Any) -> Any:
    return next(output["data"] for output in answer["outputs"] if output["name"] == "embedding")


@contextmanager
def _guarded(tmp_path: Path, state: State, **limits: Any) -> Iterator[tuple[Guard, int]]:
    http, grpc = (listen("127.0.0.1", 0, f"--{kind}-port") for kind in ("http", "grpc"))
    settings = Settings(http.fileno(), grpc.fileno(), {"tiny_012345_text": 64}, (), Limits(**limits))
    guard = Guard(settings, (http, grpc), tmp_path / "guard.log")
    try:
        guard.tell(state)
        yield guard, port_of(http)
        log = tmp_path / "guard.log"
        assert log.read_text() == ""
    finally:
        guard.stop()


def _ask(port: int, data: bytes) -> Answer:
    with _connected(port) as connection:
        connection.sendall(data)
        return _read(connection)


def _wait_for_room(port: int) -> None:
    """The guard notices closed connections within a moment."""
    deadline = time.monotonic() + 10
    while (status := _ask(port, _post(TEXT, BODY))[0]) != 200 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert status == 200


@pytest.mark.parametrize(("status", "again"), [(429, "1"), (503, "1"), (504, "1"), (400, None), (500, None)])
def test_clients_are_told_when_a_busy_triton_may_be_asked_again(
    status: int, again: str | None, tmp_path: Path
) -> None:
    with (
        http_server(lambda handler: answer_with(handler, status, {}, b'{"error": "full"}')) as url,
        _guarded(tmp_path, State(int(url.rsplit(":", 1)[1]), 0, True, "")) as (_, port),
    ):
        found, headers, answer = _ask(port, _post(TEXT, BODY))
    assert (found, headers.get("Retry-After"), answer) == (status, again, {"error": "full"})


def test_what_ended_the_server_is_refused_and_the_server_answers(
    send: Callable[[bytes], Answer], embedding: Any
) -> None:
    nested = b'{"inputs":' + b"[" * 1_000_000
    outputs = [{"name": "embedding", "parameters": {"classification": 1}}]
    status, _, answer = send(_chunked(TEXT, [b"a"] * 700_000))
    assert (status, answer["error"]) == (
        400,
        "the body comes in chunks of less than 64 bytes: send it whole, with Content-Length",
    )
    for body, reason in (
        (nested, "the JSON part is nested too deep"),
        (BODY[:-1] + b',"parameters":' + b'{"a":' * 100_000, "nested too deep"),
        (json.dumps(REQUEST | {"outputs": outputs}).encode(), "'classification' is not known here"),
    ):
        status, _, answer = send(_post(TEXT, body))
        assert status == 400
        assert reason in answer["error"]
    assert _embedding(send(_post(TEXT, BODY))[2]) == embedding


def test_bodies_in_chunks_are_collected(send: Callable[[bytes], Answer], embedding: Any) -> None:
    chunks = [BODY[start : start + 16] for start in range(0, len(BODY), 16)]
    assert _embedding(send(_chunked(TEXT, chunks))[2]) == embedding


def test_a_client_that_asks_first_is_told_to_go_on(triton: LaunchedServer, embedding: Any) -> None:
    with _connected(_port(triton)) as connection:
        connection.sendall(_head("POST", TEXT, f"Content-Length: {len(BODY)}", "Expect: 100-continue"))
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(BODY)
        assert _embedding(_read(connection)[2]) == embedding


def test_one_connection_serves_many_requests_and_errors(triton: LaunchedServer, embedding: Any) -> None:
    connection = HTTPConnection("127.0.0.1", _port(triton), timeout=30)
    for _ in range(3):
        connection.request("POST", TEXT, BODY)
        assert _embedding(json.loads(connection.getresponse().read())) == embedding
        connection.request("POST", TEXT, b'{"inputs": []}')
        response = connection.getresponse()
        assert (response.status, json.loads(response.read())["error"]) == (
            400,
            "inputs is missing: it lists the model's tensors",
        )
    connection.close()


def test_a_second_request_before_the_answer_closes_the_connection_after_it(
    triton: LaunchedServer, embedding: Any
) -> None:
    with _connected(_port(triton)) as connection:
        connection.sendall(_post(TEXT, BODY) + _post(TEXT, BODY))
        status, headers, answer = _read(connection)
        assert (status, headers["Connection"]) == (200, "close")
        assert _embedding(answer) == embedding
        assert connection.recv(1000) == b""


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/repository/index", 405),
        ("POST", "/v2/repository/models/tiny_012345_text/unload", 404),
        ("GET", "/v2/systemsharedmemory/status", 404),
        ("GET", "/v2/trace/setting", 404),
        ("POST", "/v2/logging", 404),
        ("GET", TEXT, 405),
        ("POST", "/v2/models/tiny_012345_text_encoder/infer", 404),
        ("POST", "/v2/models/tiny_012345_text/generate", 404),
        ("POST", "/v2/models/..%2f..%2fx/infer", 404),
        ("GET", "/v2/models/tiny_012345_text/versions/x", 404),
        ("GET", "/v2/health/ready?x=1", 400),
        ("OPTIONS", "*", 404),
        ("GET", "/v2", 200),
        ("GET", "/v2/health/live", 200),
        ("GET", "/v2/health/ready", 200),
        ("GET", "/v2/models/stats", 200),
        ("GET", "/v2/models/tiny_012345_text", 200),
        ("GET", "/v2/models/tiny_012345_text/versions/1/config", 200),
        ("GET", "/v2/models/tiny_012345_text_encoder/stats", 200),
        ("POST", "/v2/repository/index", 200),
    ],
)
def test_routes(send: Callable[[bytes], Answer], method: str, path: str, status: int) -> None:
    answered, headers, answer = send(_head(method, path, "Content-Length: 0"))
    assert answered == status
    if status >= 400:
        assert list(answer) == ["error"]
    if status == 405:
        assert headers["Allow"] in ("GET", "POST")


@pytest.mark.parametrize(
    ("data", "status", "reason"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00", 400, "no HTTP/1.1 request"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "no HTTP/1.1 request"),
        (_head("POST", TEXT, f"Content-Length: {1 << 40}"), 413, "more than 75497472 bytes"),
        (_head("POST", TEXT, "Content-Length: -1"), 400, ""),
        (_head("POST", TEXT, "Content-Length: 5", "Transfer-Encoding: chunked"), 400, "no HTTP/1.1 request"),
        (_head("POST", TEXT, "Inference-Header-Content-Length: x"), 400, "no number of bytes"),
        (
            _post(TEXT, BODY, "Inference-Header-Content-Length: 999"),
            400,
            "has 117 bytes".replace("117", str(len(BODY))),
        ),
        (_post(TEXT, gzip.compress(bytes(1 << 20)), "Content-Encoding: gzip"), 415, "without Content-Encoding"),
        (_post(TEXT, BODY, *(f"X-{i}: 1" for i in range(70))), 431, "more than 64 headers"),
        (_post(TEXT, BODY, "X: " + "a" * 20_000), 431, "more than 16384 bytes of headers"),
        (b"GET /" + b"a" * 300_000, 431, "more than 16384 bytes of headers"),
        (_post(TEXT, b" " * (5 << 20)), 413, "send tensors as binary data"),
        (_post("/v2/repository/index", b'{"ready": 1}'), 400, "ready must be true or false"),
        (_head("GET", "/v2", "Content-Length: 1") + b"x", 400, "/v2 takes no body"),
    ],
)
def test_requests_out_of_bounds(send: Callable[[bytes], Answer], data: bytes, status: int, reason: str) -> None:
    answered, _, answer = send(data)
    assert answered == status
    assert reason in answer["error"]


def test_slow_requests_are_told_so_and_idle_connections_closed(triton: LaunchedServer, tmp_path: Path) -> None:
    state = State(_own_port(triton), 0, True, "")
    with _guarded(tmp_path, state, header_s=0.3, body_s=0.1, body_bytes_per_s=1 << 30) as (_, port):
        assert _ask(port, b"POST ")[0] == 408
        status, _, answer = _ask(port, _head("POST", TEXT, "Content-Length: 100") + b"{")
        assert (status, answer["error"]) == (408, "the request came too slowly: send it faster")
    with _guarded(tmp_path, state, idle_s=0.2) as (_, port), _connected(port) as idle:
        assert idle.recv(10) == b""


def test_too_many_connections_and_bodies_are_turned_away_until_there_is_room(
    triton: LaunchedServer, tmp_path: Path
) -> None:
    state = State(_own_port(triton), 0, True, "")
    with _guarded(tmp_path, state, connections=2, buffered_bytes=len(BODY) + 10) as (_, port):
        with _connected(port) as first, _connected(port):
            first.sendall(_head("POST", TEXT, f"Content-Length: {len(BODY)}") + BODY[:-1])
            status, headers, answer = _ask(port, b"")
            assert (status, headers["Retry-After"]) == (503, "1")
            assert "too many connections" in answer["error"]
        _wait_for_room(port)
        with _connected(port) as first:
            first.sendall(_head("POST", TEXT, f"Content-Length: {len(BODY)}") + BODY[:-1])
            time.sleep(0.3)
            assert _ask(port, _post(TEXT, BODY))[0] == 503
            first.sendall(BODY[-1:])
            assert _read(first)[0] == 200
        _wait_for_room(port)


def test_without_a_server_clients_may_come_again_and_readiness_says_why(tmp_path: Path) -> None:
    with _guarded(tmp_path, State(reason="the server is started again", retry_after_s=3)) as (guard, port):
        for data in (_post(TEXT, BODY), _head("GET", "/v2/health/ready"), _head("GET", "/v2")):
            status, headers, answer = _ask(port, data)
            assert (status, headers["Retry-After"]) == (503, "3")
            assert answer == {"error": "the server is started again"}
        assert _ask(port, _head("GET", "/v2/health/live"))[0] == 200
        with socket.create_server(("127.0.0.1", 0)) as deaf:
            closed = deaf.getsockname()[1]
        guard.tell(State(closed, 0, True, ""))
        deadline = time.monotonic() + 10
        while _ask(port, _head("GET", "/v2/health/ready"))[0] != 200 and time.monotonic() < deadline:
            time.sleep(0.05)
        status, _, answer = _ask(port, _post(TEXT, BODY))
        assert (status, answer["error"]) == (503, "the server ended while it had this request")


def test_a_guard_that_is_killed_is_started_again_on_the_same_port(triton: LaunchedServer, tmp_path: Path) -> None:
    with _guarded(tmp_path, State(_own_port(triton), 0, True, "")) as (guard, port):
        assert guard.keep() is None
        os.kill(guard.pid, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while (code := guard.keep()) is None and time.monotonic() < deadline:
            time.sleep(0.02)
        assert code == -signal.SIGKILL
        assert _ask(port, _post(TEXT, BODY))[0] == 200


def test_a_client_that_goes_away_leaves_nothing_behind(
    triton: LaunchedServer, embedding: Any, tmp_path: Path
) -> None:
    state = State(_own_port(triton), 0, True, "")
    with _guarded(tmp_path, state, connections=3, buffered_bytes=3 * len(BODY)) as (_, port):
        for size in [len(BODY), len(BODY) - 1, 3] * 20:
            with _connected(port) as connection:
                connection.sendall(_post(TEXT, BODY)[: size - len(BODY) or None])
        _wait_for_room(port)
        assert _embedding(_ask(port, _post(TEXT, BODY))[2]) == embedding


UPGRADE = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__")
LIVE = "/v2/health/live"


def _all(port: int, *blocks: bytes) -> bytes:
    """All that comes until the guard closes the connection."""
    with _connected(port) as connection:
        for block in blocks:
            connection.sendall(block)
            time.sleep(0.01)
        return b"".join(iter(lambda: connection.recv(1 << 16), b""))


def test_a_wish_for_another_protocol_is_ignored(tmp_path: Path) -> None:
    """With one answer, and none to what follows."""
    with _guarded(tmp_path, State()) as (_, port):
        for data in (_head("GET", LIVE, *UPGRADE), _head("GET", LIVE, *UPGRADE) + b"PRI * HTTP/2.0\r\n\r\n"):
            answer = _all(port, data)
            assert (answer.count(b"HTTP/1.1"), answer.count(b"Connection: close")) == (1, 1)
            assert answer.startswith(b"HTTP/1.1 200 ")


def test_a_wish_for_another_protocol_beside_a_body_is_refused(tmp_path: Path) -> None:
    """The parser skips a body there: it would be taken for an empty one."""
    with _guarded(tmp_path, State()) as (_, port):
        status, _, answer = _ask(port, _post(TEXT, BODY, *UPGRADE))
        assert (status, answer["error"]) == (400, "Upgrade is not taken beside a body: send HTTP/1.1 without it")


def test_bytes_after_the_last_request_get_no_answer(tmp_path: Path) -> None:
    last = _head("GET", LIVE, "Connection: close")
    with _guarded(tmp_path, State()) as (_, port):
        for blocks in ((last + b"more",), (last, b"more"), (last + last,), (last, last)):
            answer = _all(port, *blocks)
            assert (answer.count(b"HTTP/1.1"), answer[:13]) == (1, b"HTTP/1.1 200 ")


def test_the_limit_of_headers_does_not_depend_on_how_they_are_cut(tmp_path: Path) -> None:
    with _guarded(tmp_path, State()) as (_, port):
        for size, status in ((15_000, b"200"), (17_000, b"431")):
            data = _head("GET", LIVE, "Connection: close", "X: " + "a" * size)
            for step in (len(data), 4000, 700):
                blocks = [data[place : place + step] for place in range(0, len(data), step)]
                # Both may be sent: what comes after a refusal is dropped.
                assert _all(port, *blocks)[9:12] == status


def test_a_last_answer_is_sent_to_who_reads_late(tmp_path: Path) -> None:
    """Later than what follows it is waited for; the server behind is one that answers with much."""
    size = 32 << 20
    with socket.create_server(("127.0.0.1", 0)) as server:
        state = State(server.getsockname()[1], 0, True, "")
        with _guarded(tmp_path, state) as (_, port), _connected(port) as connection:
            connection.sendall(_post(TEXT, BODY, "Connection: close"))
            upstream, _ = server.accept()
            with upstream:
                upstream.recv(1 << 16)
                upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))
                time.sleep(LINGER_S + 1.5)
                response = HTTPResponse(connection)
                response.begin()
                assert len(response.read()) == size
