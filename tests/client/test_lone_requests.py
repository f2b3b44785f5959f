"""A call with one request: in the caller's own thread where that keeps the deadline, and within the limit."""

from __future__ import annotations

import contextlib
import http.server
import json
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from protoclip.client import Client, DeadlineExceeded, InMemoryTransport, MemoryModel
from protoclip.client.grpc_transport import GrpcTransport
from protoclip.client.http_transport import HttpTransport
from protoclip.client.transport import Answer


class Noting(InMemoryTransport):
    """Notes the threads that ask, and lets them wait where it is told to."""

    def __init__(self, *, keeps_deadlines: bool) -> None:
        super().__init__(MemoryModel(lambda data: np.ones(4), lambda text: np.ones(4), 4))
        self.keeps_deadlines = keeps_deadlines
        self.threads: list[int] = []
        self.go_on = threading.Event()
        self.go_on.set()

    def infer(self, model: str, input_name: str, items: Sequence[bytes], timeout_s: float | None) -> Answer:
        self.threads.append(threading.get_ident())
        assert self.go_on.wait(60)
        return super().infer(model, input_name, items, timeout_s)


def test_a_lone_request_is_sent_by_the_caller_and_several_are_not() -> None:
    transport = Noting(keeps_deadlines=True)
    here = threading.get_ident()
    with Client(transport=transport, batch_size=2) as client:
        assert client.embed_texts("one").shape == (4,)
        assert client.embed_texts(["one"]).shape == (1, 4)
        client.embed_texts(["one", "two"])
        assert transport.threads == [here, here, here]
        client.embed_texts(["one", "two", "three"])
        assert here not in transport.threads[3:]


def test_who_does_not_keep_deadlines_is_asked_by_another_thread() -> None:
    transport = Noting(keeps_deadlines=False)
    transport.go_on.clear()
    try:
        with Client(transport=transport, timeout_s=0.2) as client:
            with pytest.raises(DeadlineExceeded):
                client.embed_texts("one")
            transport.go_on.set()
    finally:
        transport.go_on.set()
    assert threading.get_ident() not in transport.threads


def test_lone_requests_count_for_the_limit() -> None:
    transport = Noting(keeps_deadlines=True)
    with Client(transport=transport, concurrency=2) as client:
        client.embed_texts("the model is known then")
        transport.threads.clear()
        transport.go_on.clear()
        callers = [threading.Thread(target=client.embed_texts, args=("one",)) for _ in range(6)]
        for caller in callers:
            caller.start()
        while len(transport.threads) < 2:
            threading.Event().wait(0.01)
        threading.Event().wait(0.1)
        assert len(transport.threads) == 2
        transport.go_on.set()
        for caller in callers:
            caller.join()
    assert len(transport.threads) == 6


def test_transports_say_what_they_keep() -> None:
    assert GrpcTransport.keeps_deadlines
    assert HttpTransport("127.0.0.1", 1).keeps_deadlines
    assert not HttpTransport("localhost", 1).keeps_deadlines, "a name has to be looked up"
    assert not HttpTransport("127.0.0.1", 1, tls=True).keeps_deadlines


@pytest.mark.parametrize("slow_body", [False, True])
def test_an_answer_that_comes_byte_by_byte_does_not_outlast_the_deadline(slow_body: bool) -> None:
    head, body = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", b"[]" + b" " * 98

    def answer(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(1 << 16)
            if slow_body:
                connection.sendall(head)
            for byte in body if slow_body else head + body:
                connection.sendall(bytes([byte]))
                threading.Event().wait(0.02)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer, args=(listener,))
        thread.start()
        transport = HttpTransport("127.0.0.1", listener.getsockname()[1])
        with pytest.raises(DeadlineExceeded):
            transport.ready_models(0.4)
        transport.close()
        thread.join()


@contextmanager
def answering() -> Iterator[tuple[int, list[bytes]]]:
    """A port whose program answers each request when it has it, and what arrived before the first pause."""
    arrived: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                arrived.append(connection.recv(1 << 22))
                head, _, body = arrived[0].partition(b"\r\n\r\n")
                size = int(http.client.parse_headers(_lines(head))["Content-Length"])
                while len(body) < size:
                    body += connection.recv(1 << 22)
                text = json.dumps({"models": []}).encode()
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text))

        thread = threading.Thread(target=answer)
        thread.start()
        yield listener.getsockname()[1], arrived
        thread.join()


def _lines(head: bytes) -> Any:
    import io

    return io.BytesIO(head.partition(b"\r\n")[2] + b"\r\n\r\n")


@pytest.mark.parametrize(("size", "pieces"), [(1000, 1), (3 << 20, 2)])
def test_head_and_body_are_one_piece_unless_it_were_large(
    size: int, pieces: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []
    send = socket.socket.sendall

    def noting(self: socket.socket, data: bytes, *flags: int) -> None:
        if threading.current_thread() is threading.main_thread():
            sent.append(len(data))
        send(self, data, *flags)

    monkeypatch.setattr(socket.socket, "sendall", noting)
    body = b'{"x": "' + b"y" * size + b'"}'
    with answering() as (port, arrived):
        transport = HttpTransport("127.0.0.1", port)
        assert transport._json("POST", "/v2/repository/index", body, 30.0) == {"models": []}
        transport.close()
    assert len(sent) == pieces
    assert arrived[0].startswith(b"POST /v2/repository/index HTTP/1.1\r\n")
    assert sum(sent) > len(body)
