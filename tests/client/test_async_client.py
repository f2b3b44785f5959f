"""AsyncClient beside Client: the same interface and answers, and what a cancelled task leaves behind."""

from __future__ import annotations

import asyncio
import inspect
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from misbehaving_servers import GOOD_HTTP, http_server, send, waiting_grpc_server

from protoclip.client import AsyncClient, Client, DeadlineExceeded, InMemoryTransport, MemoryModel
from protoclip.client.call import Call
from protoclip.client.connection import connect as connect_to
from protoclip.client.errors import CallCancelled
from protoclip.client.grpc_transport import GrpcTransport
from protoclip.client.transport import Answer
from protoclip.contract.errors import ConfigError, ItemError, ServerError
from protoclip.search import Index

BLACK = np.zeros((8, 8, 3), np.uint8)
GREY = np.full((9, 7, 3), 99, np.uint8)
RENAMED = {"__enter__": "__aenter__", "__exit__": "__aexit__"}

CALLS: dict[str, Callable[[Any, Index], Any]] = {
    "one text": lambda client, index: client.embed_texts("a red shoe"),
    "texts": lambda client, index: client.embed_texts([f"text {number}" for number in range(100)]),
    "no text": lambda client, index: client.embed_texts([]),
    "bad text": lambda client, index: client.embed_texts(["a", " "]),
    "bad text returned": lambda client, index: client.embed_texts(["a", " "], errors="return"),
    "one picture": lambda client, index: client.embed_images(BLACK),
    "pictures": lambda client, index: client.embed_images([BLACK, GREY] * 20, timeout_s=60),
    "no pictures": lambda client, index: client.embed_images({}),
    "unknown errors": lambda client, index: client.embed_images(BLACK, errors="ignore"),
    "no budget": lambda client, index: client.embed_images(BLACK, timeout_s=-1),
    "one class": lambda client, index: client.classify(GREY, ["a", "b"], "photo"),
    "classes": lambda client, index: client.classify([GREY, b"no picture"], ["a", "b"], errors="return"),
    "best classes": lambda client, index: client.classify([GREY, BLACK], ["a", "b", "c"], top_k=2),
    "fitting classes": lambda client, index: client.classify(GREY, ["a"], multi_label=True, threshold=0.1),
    "no threshold": lambda client, index: client.classify(GREY, ["a", "b"], multi_label=True),
    "no class": lambda client, index: client.classify([GREY], []),
    "search by text": lambda client, index: client.search(index, text="text 1", k=2),
    "search by image": lambda client, index: client.search(index, image=GREY, k=3),
    "search by nothing": lambda client, index: client.search(index),
    "model": lambda client, index: client.model,
    "url": lambda client, index: client.url,
    "stream of texts": lambda client, index: client.stream_texts(["a", " ", "b"] * 30),
    "stream of pictures": lambda client, index: client.stream_images([BLACK, b"", GREY], timeout_s=None),
    "stream of one": lambda client, index: client.stream_texts(3),
}


def _public(kind: type) -> dict[str, Any]:
    found = {}
    for name, member in vars(kind).items():
        if name in RENAMED.values() or name == "__init__" or not name.startswith("_") or name in RENAMED:
            found[name] = member
    return found


@pytest.fixture(scope="module")
def index(tiny_artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Index:
    with Client(str(tiny_artifact)) as client:
        texts = [f"text {number}" for number in range(5)]
        return Index.build(tmp_path_factory.mktemp("index") / "texts", client, texts=texts)


class TestTwin:
    def test_has_the_same_members(self) -> None:
        expected = {RENAMED.get(name, name) for name in _public(Client)}
        assert set(_public(AsyncClient)) == expected

    @pytest.mark.parametrize(
        "name", [name for name in _public(Client) if not isinstance(vars(Client)[name], property)]
    )
    def test_takes_the_same_arguments(self, name: str) -> None:
        ours, twin = vars(Client)[name], vars(AsyncClient)[RENAMED.get(name, name)]
        assert inspect.signature(ours).parameters == inspect.signature(twin).parameters
        assert inspect.iscoroutinefunction(twin) or name in ("__init__", "stream_images", "stream_texts")

    @pytest.fixture(params=["memory", "artifact", "grpc", "http"])
    def options(
        self, request: pytest.FixtureRequest, memory_model: MemoryModel, tiny_artifact: Path
    ) -> Callable[[], dict[str, Any]]:
        if request.param == "memory":
            return lambda: {"transport": InMemoryTransport(memory_model)}
        if request.param == "artifact":
            return lambda: {"url": str(tiny_artifact)}
        server = request.getfixturevalue("triton")
        url = server.grpc_url if request.param == "grpc" else server.http_url
        return lambda: {"url": url}

    @pytest.mark.parametrize("call", CALLS)
    def test_answers_the_same(self, call: str, options: Callable[[], dict[str, Any]], index: Index) -> None:
        with Client(**options()) as client:
            expected = _outcome(lambda: _drained(CALLS[call](client, index)))

        async def ask() -> Any:
            async with AsyncClient(**options()) as client:
                return await _async_outcome(lambda: CALLS[call](client, index))

        _assert_same(asyncio.run(ask()), expected)


def _drained(value: Any) -> Any:
    return list(value) if inspect.isgenerator(value) else value


def _outcome(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except (ConfigError, ItemError, ServerError) as error:
        return error


async def _async_outcome(ask: Callable[[], Any]) -> Any:
    try:
        return await _drained_async(ask())
    except (ConfigError, ItemError, ServerError) as error:
        return error


async def _drained_async(value: Any) -> Any:
    if inspect.isasyncgen(value):
        return [part async for part in value]
    return await value if inspect.isawaitable(value) else value


def _assert_same(found: Any, expected: Any) -> None:
    assert type(found) is type(expected)
    if isinstance(found, np.ndarray):
        np.testing.assert_allclose(found, expected, atol=1e-6)
    elif isinstance(found, Exception):
        assert str(found) == str(expected)
    elif isinstance(found, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            _assert_same(one, other)
    elif hasattr(found, "vectors"):
        np.testing.assert_allclose(found.vectors, expected.vectors, atol=1e-6)
        assert [vars(error) for error in found.errors] == [vars(error) for error in expected.errors]
        assert found.start == expected.start
    elif hasattr(found, "score"):
        assert found.score == pytest.approx(expected.score, abs=1e-4, nan_ok=True)
    else:
        assert found == expected


class Slow(InMemoryTransport):
    """Answers a request when `go` is set."""

    def __init__(self, model: MemoryModel) -> None:
        super().__init__(model)
        self.num_requests = 0
        self.arrived = threading.Semaphore(0)
        self.go = threading.Event()

    def infer(self, model: str, input_name: str, items: Sequence[bytes], timeout_s: float | None) -> Answer:
        self.num_requests += 1
        self.arrived.release()
        assert self.go.wait(60)
        return super().infer(model, input_name, items, timeout_s)


async def _cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


class TestCancellation:
    @pytest.fixture
    def slow(self, memory_model: MemoryModel) -> Iterator[Slow]:
        slow = Slow(memory_model)
        yield slow
        slow.go.set()

    def test_sends_no_further_request(self, slow: Slow) -> None:
        read: list[str] = []

        def texts() -> Iterator[str]:
            for number in range(1000):
                read.append(f"text {number}")
                yield read[-1]

        async def ask() -> None:
            async with AsyncClient(transport=slow, batch_size=1, concurrency=2) as client:
                task = asyncio.create_task(client.embed_texts(texts()))
                for _ in range(2):
                    assert await asyncio.to_thread(slow.arrived.acquire, timeout=60)
                await _cancelled(task)
                slow.go.set()
                assert (await client.embed_texts("b")).shape == (16,)
                assert slow.num_requests == 3

        asyncio.run(ask())
        assert len(read) <= 4

    def test_of_a_stream_sends_no_further_request(self, slow: Slow) -> None:
        slow.go.set()

        async def ask() -> int:
            async with AsyncClient(transport=slow, batch_size=1, concurrency=2) as client:
                parts = client.stream_texts(f"text {number}" for number in range(1000))
                await anext(parts)
                await parts.aclose()  # type: ignore[attr-defined]
            return slow.num_requests

        assert asyncio.run(ask()) <= 4

    def test_while_it_connects_sends_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        connecting, go, asked = threading.Event(), threading.Event(), threading.Event()
        real = HTTPConnection.connect

        def connect(connection: HTTPConnection) -> None:
            connecting.set()
            assert go.wait(60)
            real(connection)

        def answer(handler: BaseHTTPRequestHandler) -> None:
            asked.set()
            send(handler, *GOOD_HTTP)

        monkeypatch.setattr(HTTPConnection, "connect", connect)
        with http_server(answer) as url:
            transport, call = connect_to(url), Call()
            with ThreadPoolExecutor(1) as pool, call.current():
                asking = pool.submit(copy_context().run, transport.ready_models, 60)
                assert connecting.wait(60)
                call.cancel()
                go.set()
                with pytest.raises(CallCancelled):
                    asking.result(60)
            transport.close()
            assert not asked.is_set()

    @pytest.mark.parametrize(
        ("version", "cancels"), [("2.59.0", True), ("3.0", True), ("2.58.1", False), ("", False), (None, False)]
    )
    def test_cancels_on_servers_that_survive_it(self, version: str | None, cancels: bool) -> None:
        with waiting_grpc_server(version) as server:

            async def ask() -> None:
                transport = GrpcTransport("127.0.0.1", server.port)
                async with AsyncClient(transport=transport, timeout_s=None) as client:
                    task = asyncio.create_task(client._model())
                    await asyncio.to_thread(server.arrived.wait, 60)
                    await _cancelled(task)
                    assert await asyncio.to_thread(server.cancelled.wait, 60 if cancels else 0.3) == cancels

            asyncio.run(ask())

    def test_a_question_for_the_version_that_failed_is_asked_again(self) -> None:
        with waiting_grpc_server("2.59.0", num_failures=1) as server:
            transport = GrpcTransport("127.0.0.1", server.port)
            stub = transport._open()
            assert not transport._survives_cancellations(stub, 60, ())
            assert transport._survives_cancellations(stub, 60, ())
            transport.close()

    def test_ends_the_connection_over_http(self) -> None:
        arrived, ended = threading.Event(), threading.Event()

        def wait_for_the_end(listener: socket.socket) -> None:
            connection, _ = listener.accept()
            with connection:
                while connection.recv(1 << 16):
                    arrived.set()
            ended.set()

        async def ask(port: int) -> None:
            async with AsyncClient(f"http://127.0.0.1:{port}", timeout_s=None) as client:
                task = asyncio.create_task(client._model())
                await asyncio.to_thread(arrived.wait, 60)
                await _cancelled(task)
                assert await asyncio.to_thread(ended.wait, 60)

        with socket.create_server(("127.0.0.1", 0)) as listener:
            thread = threading.Thread(target=wait_for_the_end, args=(listener,), daemon=True)
            thread.start()
            asyncio.run(ask(listener.getsockname()[1]))
            thread.join(60)

    def test_ends_the_pauses_between_attempts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pauses, ended = threading.Event(), threading.Event()
        real = Call.pause

        def pause(call: Call, seconds: float) -> None:
            pauses.set()
            try:
                real(call, seconds)
            finally:
                ended.set()

        async def ask(url: str) -> None:
            async with AsyncClient(url, timeout_s=None) as client:
                task = asyncio.create_task(client._model())
                assert await asyncio.to_thread(pauses.wait, 60)
                await _cancelled(task)
                assert await asyncio.to_thread(ended.wait, 60)

        monkeypatch.setattr(Call, "pause", pause)
        with http_server(lambda handler: send(handler, 503, {"Retry-After": "100"}, b"")) as url:
            asyncio.run(ask(url))

    def test_leaves_other_calls_alone(self, triton: Any) -> None:
        async def ask(url: str) -> None:
            async with AsyncClient(url, concurrency=8, timeout_s=120) as client:
                await client.model
                tasks = [asyncio.create_task(client.embed_texts([f"text {n}"] * 40)) for n in range(40)]
                await asyncio.sleep(0)
                for task in tasks[::2]:
                    task.cancel()
                outcomes = await asyncio.gather(*tasks, return_exceptions=True)
                for number, outcome in list(enumerate(outcomes))[1::2]:
                    np.testing.assert_allclose(outcome[0], await client.embed_texts(f"text {number}"), atol=1e-6)

        for url in (triton.grpc_url, triton.http_url):
            asyncio.run(ask(url))


@pytest.mark.parametrize("name", ["embed_texts", "stream_texts"])
def test_a_call_has_a_budget_while_it_waits_for_a_thread(
    name: str, memory_model: MemoryModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protoclip.client.async_client._MAX_CALLS", 1)
    slow = Slow(memory_model)

    async def ask() -> None:
        async with AsyncClient(transport=slow, timeout_s=None) as client:
            first = asyncio.create_task(client.embed_texts("a"))
            assert await asyncio.to_thread(slow.arrived.acquire, timeout=60)
            with pytest.raises(DeadlineExceeded, match=r"the budget of 0\.2 s is used up"):
                await _drained_async(getattr(client, name)(["b"], timeout_s=0.2))
            slow.go.set()
            assert (await first).shape == (16,)
            assert (await client.embed_texts("c")).shape == (16,)
        assert slow.num_requests == 2

    try:
        asyncio.run(ask())
    finally:
        slow.go.set()


def _run(ask: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(ask)


class TestProgress:
    @pytest.mark.parametrize("has_length", [True, False])
    def test_is_told_in_the_loop(self, memory_model: MemoryModel, has_length: bool) -> None:
        told: list[tuple[str, int, int]] = []

        def tell(what: str, done: int, total: int) -> None:
            asyncio.get_running_loop()
            told.append((what, done, total))

        async def ask() -> None:
            texts = ["a"] * 70
            async with AsyncClient(transport=InMemoryTransport(memory_model)) as client:
                await client.embed_texts(texts if has_length else iter(texts), progress=tell)

        _run(ask())
        total = 70 if has_length else 0
        assert told == [("embed texts", done, total) for done in (32, 64, 70)]

    def test_that_fails_ends_the_call(self, memory_model: MemoryModel) -> None:
        def fail(what: str, done: int, total: int) -> None:
            raise ValueError("the window is closed")

        async def ask() -> None:
            async with AsyncClient(transport=InMemoryTransport(memory_model)) as client:
                await client.embed_images([BLACK] * 200, progress=fail)

        with pytest.raises(ValueError, match="the window is closed"):
            _run(ask())
        client = Client(transport=InMemoryTransport(memory_model))
        with client, pytest.raises(ValueError, match="the window is closed"):
            client.embed_images([BLACK] * 200, progress=fail)


def test_a_closed_client_says_so(memory_model: MemoryModel) -> None:
    async def ask() -> None:
        client = AsyncClient(transport=InMemoryTransport(memory_model))
        await client.close()
        await client.close()
        await client.embed_texts("a")

    with pytest.raises(ServerError, match="the client is closed"):
        _run(ask())
