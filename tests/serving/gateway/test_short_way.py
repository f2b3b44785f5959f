"""Requests of KServe v2 that come whole take a short way: the same rules and answers, and the usual way else."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from running_gateway import RunningGateway, running_gateway

from serving.gateway.short_way import ShortWay
from serving.gateway.upstream import Upstream

INFER = b"/v2/models/a/infer"
REQUEST = (
    b"POST "
    + INFER
    + b" HTTP/1.1\r\nHost: localhost\r\nX-API-Key: 0123456789abcdef\r\nContent-Length: 2\r\n\r\n{}"
)
GOOD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Own: a\r\nContent-Length: 4\r\n\r\ngood"


@dataclass
class Talk:
    """A gateway, the server behind it, and which requests took the short way."""

    running: RunningGateway
    server: socket.socket
    took: list[bool] = field(default_factory=list)

    def client(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.running.port), timeout=20)

    def one_that_infers(self) -> socket.socket:
        """The gateway's connection with a request; others, by which it looks for models, are closed."""
        while True:
            asked, _ = self.server.accept()
            asked.settimeout(20)
            if INFER in request_of(asked):
                return asked
            asked.close()

    def warm_up(self, client: socket.socket) -> socket.socket:
        """Sends a request the usual way; the gateway's connection, which is kept for the next one."""
        client.sendall(REQUEST)
        asked = self.one_that_infers()
        asked.sendall(GOOD)
        assert answer_of(client).endswith(b"good")
        self.took.clear()
        return asked


def request_of(asked: socket.socket) -> bytes:
    """One request, of inference whole."""
    data = asked.recv(1 << 16)
    while INFER in data and not data.endswith(b"{}"):
        block = asked.recv(1 << 16)
        assert block, "the connection ended"
        data += block
    return data


def answer_of(client: socket.socket) -> bytes:
    """One whole answer."""
    data = b""
    while (found := re.search(rb"content-length: (\d+)", data)) is None or b"\r\n\r\n" not in data:
        data += _received(client)
    length = data.index(b"\r\n\r\n") + 4 + int(found[1])
    while len(data) < length:
        data += _received(client)
    assert len(data) == length
    return data


def _received(client: socket.socket) -> bytes:
    data = client.recv(1)
    assert data, "the connection ended"
    return data


@pytest.fixture
def talk(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Talk]:
    keys = tmp_path / "keys"
    keys.write_text("shop 0123456789abcdef\n")
    took: list[bool] = []
    begin: Callable[..., Any] = ShortWay.begin

    def noted(self: ShortWay, *arguments: Any) -> Any:
        call = begin(self, *arguments)
        took.append(call is not None)
        return call

    monkeypatch.setattr(ShortWay, "begin", noted)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        with running_gateway(url=url, keys_file=keys, **getattr(request, "param", {})) as running:
            yield Talk(running, server, took)


def check_nothing_is_held(talk: Talk) -> None:
    """Of all requests so far; the one that asks is in flight itself."""
    counted = talk.running.ask("GET", "/metrics", headers={"X-API-Key": "0123456789abcdef"}).body.decode()
    assert "requests_in_flight 1.0" in counted
    assert "held_bytes 0.0" in counted


def logged(talk: Talk, number: int) -> list[dict[str, Any]]:
    """The lines of requests for inference, when there are so many."""
    end = time.monotonic() + 20
    while (
        len(lines := [one for line in talk.running.log if "/infer" in (one := json.loads(line)).get("path", "")])
        < number
    ):
        assert time.monotonic() < end
        time.sleep(0.01)
    return lines


def test_it_gives_what_the_usual_way_gives(talk: Talk) -> None:
    with talk.client() as client:
        client.sendall(REQUEST)
        with talk.one_that_infers() as asked:
            asked.sendall(GOOD)
            usual = answer_of(client)
            client.sendall(REQUEST)
            assert request_of(asked).endswith(b"\r\ncontent-length: 2\r\n\r\n{}")
            asked.sendall(GOOD)
            short = answer_of(client)
    assert talk.took == [True]
    changing = re.compile(rb"(date|x-request-id): [^\r]+")
    assert sorted(changing.sub(b"", short).split(b"\r\n")) == sorted(changing.sub(b"", usual).split(b"\r\n"))
    assert b"x-own" not in short.lower()
    first, second = logged(talk, 2)
    same = ("status", "method", "path", "bytes_received", "bytes_sent", "client", "address")
    assert [first[name] for name in same] == [second[name] for name in same]
    counted = talk.running.ask("GET", "/metrics", headers={"X-API-Key": "0123456789abcdef"}).body.decode()
    assert 'requests_total{route="/v2/{rest:path}",status="200"} 2.0' in counted
    check_nothing_is_held(talk)


def test_what_breaks_a_rule_is_refused_as_ever(talk: Talk) -> None:
    with talk.client() as client, talk.warm_up(client):
        for request, status in (
            (REQUEST.replace(b"0123456789abcdef", b"y" * 16), b"401"),
            (REQUEST.replace(b"localhost", b"elsewhere.example"), b"421"),
            (REQUEST.replace(b"X-API-Key", b"Origin: http://a.example\r\nX-API-Key"), b"403"),
            (REQUEST.replace(b"Content-Length", b"Content-Encoding: gzip\r\nContent-Length"), b"415"),
        ):
            client.sendall(request)
            assert answer_of(client)[9:12] == status
    assert talk.took == [False] * 4


def test_large_bodies_and_odd_requests_take_the_usual_way(talk: Talk) -> None:
    large = b"x" * 600_000 + b"{}"  # more than is read at once
    with talk.client() as client, talk.warm_up(client) as asked:
        client.sendall(REQUEST.replace(b"Content-Length: 2", b"Content-Length: %d" % len(large))[:-2] + large)
        assert request_of(asked).endswith(large)
        asked.sendall(GOOD)
        assert answer_of(client).endswith(b"good")
        client.sendall(REQUEST.replace(b"Host", b"Connection: close\r\nHost"))
        assert request_of(asked)
        asked.sendall(GOOD)
        last = answer_of(client)
        assert client.recv(1) == b""
    assert b"connection: close" in last
    assert talk.took == []


def test_answers_come_in_the_order_of_their_requests(talk: Talk) -> None:
    with talk.client() as client, talk.warm_up(client) as asked:
        client.sendall(
            REQUEST + b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\nX-API-Key: 0123456789abcdef\r\n\r\n" + REQUEST
        )
        assert request_of(asked)
        asked.sendall(GOOD)
        first, second = answer_of(client), answer_of(client)
        assert request_of(asked)
        asked.sendall(GOOD.replace(b"good", b"more"))
        third = answer_of(client)
    assert (first[-4:], second[9:12], third[-4:]) == (b"good", b"404", b"more")
    assert talk.took == [True]


def test_a_connection_that_the_server_had_closed_is_tried_once_more(talk: Talk) -> None:
    with talk.client() as client:
        with talk.warm_up(client) as asked:
            client.sendall(REQUEST)
            assert request_of(asked)
        with talk.one_that_infers() as again:
            again.sendall(GOOD)
            assert answer_of(client).endswith(b"good")
    assert talk.took == [True]
    assert [line["status"] for line in logged(talk, 2)] == [200, 200]
    check_nothing_is_held(talk)


@pytest.mark.parametrize("talk", [{"requests_per_s": 0.3}], indirect=True)
def test_what_falls_back_to_the_usual_way_counts_once(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Upstream, "start", lambda *_: None)  # as where no connection waits any more
    with talk.client() as client, talk.warm_up(client) as asked:
        client.sendall(REQUEST)
        asked.settimeout(5)
        assert request_of(asked)
        asked.sendall(GOOD)
        assert answer_of(client)[9:12] == b"200"
    assert [line["status"] for line in logged(talk, 2)] == [200, 200]
    check_nothing_is_held(talk)  # asks the third and last time that it may at once
    assert talk.took == [False]


def test_a_client_that_goes_ends_the_request(talk: Talk) -> None:
    with talk.client() as client:
        asked = talk.warm_up(client)
        client.sendall(REQUEST)
        assert request_of(asked)
    with asked:
        assert asked.recv(1) == b""
    assert talk.took == [True]
    assert [line["status"] for line in logged(talk, 2)] == [200, 499]


def test_no_answer_in_time(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    start: Callable[..., Any] = Upstream.start
    monkeypatch.setattr(Upstream, "start", lambda self, *given: start(self, *given[:5], 0.2, given[6]))
    with talk.client() as client, talk.warm_up(client) as asked:
        client.sendall(REQUEST)
        assert request_of(asked)
        answer = answer_of(client)
        assert asked.recv(1) == b""
    assert (answer[9:12], b'"code":"timeout"' in answer) == (b"504", True)
    assert talk.took == [True]


def test_half_an_answer(talk: Talk) -> None:
    with talk.client() as client:
        with talk.warm_up(client) as asked:
            client.sendall(REQUEST)
            assert request_of(asked)
            asked.sendall(GOOD[:-1])
        answer = answer_of(client)
    assert (answer[9:12], b"retry-after: 2" in answer) == (b"503", True)
    assert talk.took == [True]


@pytest.mark.parametrize("talk", [{"body_bytes": 1024, "held_bytes": 1024}], indirect=True)
def test_bounds_hold(talk: Talk) -> None:
    with talk.client() as client, talk.warm_up(client):
        large = REQUEST.replace(b"Content-Length: 2", b"Content-Length: 1025").removesuffix(b"{}") + b"x" * 1025
        client.sendall(large)
        assert answer_of(client)[9:12] == b"413"
    assert talk.took == [False]
