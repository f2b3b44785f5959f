"""Each call's own budget: it is total, whatever else the client does, and nothing is sent after it."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from misbehaving_relay import relay

from protoclip.client import Client, DeadlineExceeded, Hit, InMemoryTransport, MemoryModel, ServedModel
from protoclip.client.transport import Answer, Array
from protoclip.contract.errors import ConfigError, IndexFileError
from serving.triton.launcher import LaunchedServer


class Gated(InMemoryTransport):
    """Answers what it is asked when `go` is set; `arrived` counts requests."""

    def __init__(self, model: MemoryModel) -> None:
        super().__init__(model)
        self.go = threading.Event()
        self.arrived = threading.Semaphore(0)

    def infer(self, model: str, input_name: str, items: Sequence[bytes], timeout_s: float | None) -> Answer:
        self.arrived.release()
        if not self.go.wait(timeout_s):
            raise DeadlineExceeded("no answer")
        return super().infer(model, input_name, items, timeout_s)

    def ready_models(self, timeout_s: float | None) -> list[str]:
        self.arrived.release()
        if not self.go.wait(timeout_s):
            raise DeadlineExceeded("no answer")
        return super().ready_models(timeout_s)


@pytest.fixture
def gated(memory_model: MemoryModel) -> Iterator[Gated]:
    gated = Gated(memory_model)
    yield gated
    gated.go.set()


class AnyIndex:
    """Takes vectors of all models, and holds nothing."""

    fingerprint = "000000"

    def check_model(self, model: ServedModel) -> None: ...

    def vector(self, name: str) -> Array:
        raise IndexFileError(name)

    def search(self, vectors: Array, k: int = 10, **page: object) -> list[list[Hit]]:
        return [[]]


ASK: dict[str, Callable[[Client, float | None], object]] = {
    "embed_texts": lambda client, budget: client.embed_texts("a", timeout_s=budget),
    "embed_images": lambda client, budget: client.embed_images(b"a", "return", timeout_s=budget),
    "classify": lambda client, budget: client.classify(b"a", ["a", "b"], timeout_s=budget),
    "search": lambda client, budget: client.search(AnyIndex(), text="a", timeout_s=budget),
    "stream_texts": lambda client, budget: next(client.stream_texts(["a"], timeout_s=budget)),
    "stream_images": lambda client, budget: next(client.stream_images([b"a"], timeout_s=budget)),
}


@pytest.mark.parametrize("name", ASK)
def test_replaces_the_clients(name: str, gated: Gated) -> None:
    with Client(transport=gated, timeout_s=None) as client, pytest.raises(DeadlineExceeded):
        ASK[name](client, 0.2)


@pytest.mark.parametrize("name", ASK)
@pytest.mark.parametrize("budget", [0, -1.0, math.nan, math.inf])
def test_must_be_seconds(name: str, budget: float, gated: Gated) -> None:
    with Client(transport=gated) as client, pytest.raises(ConfigError, match=f"timeout_s={budget} must be"):
        ASK[name](client, budget)


def test_none_waits_longer_than_the_client(gated: Gated) -> None:
    with Client(transport=gated, timeout_s=0.2) as client, ThreadPoolExecutor(1) as pool:
        call = pool.submit(client.embed_texts, "a", timeout_s=None)
        time.sleep(0.5)
        gated.go.set()
        assert call.result(60).shape == (16,)


def test_holds_behind_another_call_that_asks_for_the_model(gated: Gated) -> None:
    with Client(transport=gated, timeout_s=None) as client, ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.embed_texts, "a")
        assert gated.arrived.acquire(timeout=60)
        with pytest.raises(DeadlineExceeded, match=r"the budget of 0\.2 s is used up"):
            client.embed_texts("b", timeout_s=0.2)
        gated.go.set()
        assert first.result(60).shape == (16,)


def test_holds_behind_other_calls_that_take_all_connections(gated: Gated) -> None:
    with Client(transport=gated, timeout_s=None, concurrency=1) as client, ThreadPoolExecutor(1) as pool:
        gated.go.set()
        _ = client.model
        gated.go.clear()
        assert gated.arrived.acquire(timeout=60)
        first = pool.submit(client.embed_texts, "a")
        assert gated.arrived.acquire(timeout=60)
        with pytest.raises(DeadlineExceeded, match=r"the budget of 0\.2 s is used up"):
            client.embed_texts("b", timeout_s=0.2)
        gated.go.set()
        assert first.result(60).shape == (16,)
        assert client.embed_texts("c").shape == (16,)
        assert gated.arrived.acquire(blocking=False)
        assert not gated.arrived.acquire(blocking=False), "the call that was given up was sent"


def test_of_a_stream_holds_behind_other_calls(gated: Gated) -> None:
    with Client(transport=gated, timeout_s=None, concurrency=1) as client, ThreadPoolExecutor(1) as pool:
        gated.go.set()
        _ = client.model
        gated.go.clear()
        first = pool.submit(client.embed_texts, "a")
        for _ in range(2):
            assert gated.arrived.acquire(timeout=60)
        with pytest.raises(DeadlineExceeded, match=r"the budget of 0\.2 s is used up"):
            next(client.stream_texts(["b"], timeout_s=0.2))
        gated.go.set()
        assert first.result(60).shape == (16,)


def test_a_stream_that_is_left_sends_nothing_more(gated: Gated) -> None:
    gated.go.set()
    with Client(transport=gated, batch_size=1, concurrency=1) as client:
        for _ in client.stream_texts(f"text {number}" for number in range(1000)):
            break
        sent = 0
        while gated.arrived.acquire(timeout=0.2):
            sent += 1
    assert sent <= 4


@pytest.mark.parametrize("has_length", [True, False])
def test_progress_is_told_after_each_batch(memory_model: MemoryModel, has_length: bool) -> None:
    told: list[tuple[str, int, int]] = []
    items = [b"no picture"] * 70
    with Client(transport=InMemoryTransport(memory_model)) as client:
        client.embed_images(
            items if has_length else iter(items), "return", progress=lambda *state: told.append(state)
        )
    total = 70 if has_length else 0
    assert told == [("embed images", done, total) for done in (32, 64, 70)]


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_connections_are_used_again(scheme: str, triton: LaunchedServer) -> None:
    port = int((triton.grpc_url if scheme == "grpc" else triton.http_url).rsplit(":", 1)[1])
    with (
        relay(port) as between,
        Client(f"{scheme}://127.0.0.1:{between.port}", concurrency=3, batch_size=8) as client,
    ):
        for number in range(20):
            client.embed_texts(f"text {number}")
        assert between.num_connections == 1
        for _ in range(3):
            client.embed_texts([f"text {number}" for number in range(200)])
        assert between.num_connections <= (1 if scheme == "grpc" else 3)
