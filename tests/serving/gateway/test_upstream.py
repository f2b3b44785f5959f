"""What a gateway passes on over HTTP, to servers that answer as HTTP knows it, and as it does not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from serving.gateway import upstream_connection
from serving.gateway.errors import Refused
from serving.gateway.upstream import Upstream, UpstreamAnswer

GOOD = b"HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Length: 4\r\n\r\ngood"


@dataclass
class Server:
    """Answers each request with the next of `answers`, and closes after those that end in `CLOSE`."""

    answers: list[bytes]
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    talks: list[Any] = field(default_factory=list)

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.talks.append(asyncio.current_task())
        while request := await _request(reader):
            self.requests.append(request)
            answer = self.answers.pop(0)
            writer.write(answer.removesuffix(CLOSE))
            if answer.endswith(CLOSE):
                break
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        self.ended.set()


CLOSE = b"<close>"
Work = Callable[[Upstream, str, Server], Awaitable[None]]


async def _request(reader: asyncio.StreamReader) -> bytes:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next((line[15:] for line in head.split(b"\r\n") if line.startswith(b"content-length")), b"0")
        return head + await reader.readexactly(int(length))
    except (asyncio.IncompleteReadError, ConnectionResetError):
        return b""


def with_server(answers: Sequence[bytes], work: Work) -> Server:
    server = Server(list(answers))

    async def run() -> None:
        listening = await asyncio.start_server(server.talk, "127.0.0.1", 0)
        upstream = Upstream(connections=1)
        port = listening.sockets[0].getsockname()[1]
        try:
            await work(upstream, f"http://127.0.0.1:{port}/base", server)
        finally:
            await upstream.close()
            listening.close()
            await asyncio.gather(*server.talks)

    asyncio.run(run())
    return server


async def ask(upstream: Upstream, address: str, timeout_s: float = 20.0) -> UpstreamAnswer:
    return await upstream.pass_on("POST", address, b"/x", b"body", [(b"x-own", b"1")], timeout_s)


@pytest.mark.parametrize(
    "answer",
    [
        GOOD,
        b"HTTP/1.1 100 Continue\r\n\r\n" + GOOD,
        b"HTTP/1.1 200 OK\r\nX-A: b\r\nTransfer-Encoding: chunked\r\n\r\n2\r\ngo\r\n2\r\nod\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-A: b\r\nConnection: close\r\n\r\ngood" + CLOSE,
        b"HTTP/1.1 200 OK\r\nX-A: b\r\nConnection: close\r\nContent-Length: 4\r\n\r\ngood",
    ],
    ids=["length", "continue", "chunks", "until the end", "the last one"],
)
def test_an_answer_is_given_whole(answer: bytes) -> None:
    async def work(upstream: Upstream, address: str, server: Server) -> None:
        for _ in range(2):
            found = await ask(upstream, address)
            assert (found.status, found.body) == (200, b"good")
            assert (b"x-a", b"b") in found.headers

    server = with_server([answer, answer], work)
    assert server.requests[0].startswith(b"POST /base/x HTTP/1.1\r\nhost: 127.0.0.1:")
    assert server.requests[0].endswith(b"\r\nx-own: 1\r\ncontent-length: 4\r\n\r\nbody")
    assert server.connections == (2 if b"Connection: close" in answer else 1)


def test_requests_of_both_kinds_take_turns_on_the_connections() -> None:
    """There is one: others wait for it, or are told to; a turn is given back also where nobody was answered."""

    async def work(upstream: Upstream, address: str, server: Server) -> None:
        def start(tell: Callable[[Any], None]) -> Callable[[], None] | None:
            return upstream.start("POST", address, b"/x", b"body", [], 20.0, tell)

        await ask(upstream, address)
        told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        assert start(told.set_result) is not None
        assert start(lambda _: None) is None
        assert (await ask(upstream, address)).body == b"good"
        assert told.result().body == b"good"
        assert server.connections == 1
        stop = start(lambda _: None)
        assert stop is not None
        stop()
        assert (await asyncio.wait_for(ask(upstream, address), 5)).body == b"good"
        stop()
        assert (await asyncio.wait_for(asyncio.gather(ask(upstream, address), ask(upstream, address)), 5))[
            0
        ].status
        assert server.connections == 2

    with_server([GOOD] * 7, work)


def test_other_statuses_and_redirects_are_answers() -> None:
    async def work(upstream: Upstream, address: str, server: Server) -> None:
        found = await ask(upstream, address)
        assert (found.status, dict(found.headers)[b"location"]) == (302, b"http://other.example/")

    with_server([b"HTTP/1.1 302 Found\r\nLocation: http://other.example/\r\nContent-Length: 0\r\n\r\n"], work)


def test_an_idle_connection_that_was_closed_is_tried_once_more() -> None:
    async def work(upstream: Upstream, address: str, server: Server) -> None:
        assert (await ask(upstream, address)).body == b"good"
        assert (await ask(upstream, address)).body == b"good"
        with pytest.raises(Refused) as raised:
            await ask(upstream, address)
        assert raised.value.status == 503

    # The second request is closed upon without an answer, and comes again; the last one is closed upon twice.
    server = with_server([GOOD, CLOSE, GOOD, CLOSE, CLOSE], work)
    assert len(server.requests) == 5


def test_an_answer_that_broke_off_is_not_asked_for_again() -> None:
    async def work(upstream: Upstream, address: str, server: Server) -> None:
        await ask(upstream, address)
        with pytest.raises(Refused) as raised:
            await ask(upstream, address)
        assert (raised.value.status, raised.value.retry_after_s) == (503, 2)

    assert len(with_server([GOOD, GOOD[:-1] + CLOSE, GOOD], work).requests) == 2


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * (upstream_connection.MOST_HEAD_BYTES + 1),
        b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n" + b"a" * 2000,
    ],
    ids=["no HTTP", "upgrade", "long head", "long body"],
)
def test_what_is_no_answer_is_refused(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream_connection, "MOST_BYTES", 1000)

    async def work(upstream: Upstream, address: str, server: Server) -> None:
        with pytest.raises(Refused) as raised:
            await ask(upstream, address)
        assert (raised.value.status, raised.value.code) == (502, "bad_answer")
        assert (await ask(upstream, address)).body == b"good"

    with_server([answer, GOOD], work)


def test_a_second_answer_is_not_taken_for_the_next_requests() -> None:
    async def work(upstream: Upstream, address: str, server: Server) -> None:
        assert (await ask(upstream, address)).body == b"good"
        assert (await ask(upstream, address)).body == b"true"

    assert (
        with_server([GOOD + GOOD.replace(b"good", b"fake"), GOOD.replace(b"good", b"true")], work).connections == 2
    )


def test_no_answer_in_time_and_nobody_who_waits_close_the_connection() -> None:
    async def work(upstream: Upstream, address: str, server: Server) -> None:
        with pytest.raises(Refused) as raised:
            await ask(upstream, address, 0.05)
        assert raised.value.status == 504
        await server.ended.wait()
        server.ended.clear()
        asking = asyncio.create_task(ask(upstream, address))
        while len(server.requests) < 2:
            await asyncio.sleep(0.001)
        asking.cancel()
        await server.ended.wait()
        # The one turn was given back each time.
        assert (await ask(upstream, address)).body == b"good"

    with_server([b"", b"", GOOD], work)


def test_a_turn_is_waited_for_no_longer_than_the_budget() -> None:
    async def work(upstream: Upstream, address: str, server: Server) -> None:
        first = asyncio.create_task(ask(upstream, address))
        while not server.requests:
            await asyncio.sleep(0.001)
        with pytest.raises(Refused) as raised:
            await ask(upstream, address, 0.05)
        assert raised.value.status == 504
        first.cancel()

    assert with_server([b""], work).connections == 1


def test_a_header_can_not_make_another_one() -> None:
    async def work(upstream: Upstream, address: str, server: Server) -> None:
        with pytest.raises(ValueError, match="the header traceparent"):
            await upstream.pass_on("GET", address, b"/x", b"", [(b"traceparent", b"a\r\nhost: b")], 1.0)

    assert not with_server([], work).requests
