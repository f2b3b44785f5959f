"""Servers that are away, busy, slow or odd, clients that go, and the status that each error has."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from gateway_shop import COLORS, Shop, picture
from running_gateway import RunningGateway, running_gateway
from starlette.exceptions import HTTPException

from protoclip.client import AsyncClient, InMemoryTransport, MemoryModel
from protoclip.client.call import current_call
from protoclip.client.errors import (
    Busy,
    CallCancelled,
    DeadlineExceeded,
    ModelNotFound,
    NobodyListens,
    NotAuthorized,
    Refused,
    Unavailable,
)
from protoclip.client.transport import Answer
from protoclip.contract.errors import (
    ConfigError,
    DataError,
    IndexBusyError,
    IndexFileError,
    ItemError,
    ModelError,
    ProtoclipError,
    ServerError,
)
from serving.gateway.class_banks import ClassBanks
from serving.gateway.errors import refused
from serving.gateway.health import follow_alias
from serving.gateway.indexes import Indexes
from serving.gateway.logs import Log
from serving.gateway.settings import make_settings
from serving.gateway.state import Gateway

WANTED: dict[str, dict[str, Any]] = {
    "/search": {"text": "a red shoe"},
    "/classify": {"pictures": [base64.b64encode(picture(COLORS["red"])).decode()], "labels": ["a", "b"]},
}
SECRET = "grpc://10.1.2.3:8001 /srv/models"


class Waiting(InMemoryTransport):
    """Answers an inference when it is let, and notes whether it was cancelled meanwhile."""

    def __init__(self, model: MemoryModel) -> None:
        super().__init__(model)
        self.asked = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.cancelled = threading.Event()

    def infer(self, model: str, input_name: str, items: Sequence[bytes], timeout_s: float | None) -> Answer:
        self.asked.release()
        with current_call().ended_by(self._cancel):
            self.go_on.wait(20)
        return super().infer(model, input_name, items, timeout_s)

    def _cancel(self) -> None:
        self.cancelled.set()
        self.go_on.set()


class Failing(InMemoryTransport):
    """Answers every inference with an error."""

    def __init__(self, model: MemoryModel, error: Exception) -> None:
        super().__init__(model)
        self._error = error

    def infer(self, model: str, input_name: str, items: Sequence[bytes], timeout_s: float | None) -> Answer:
        raise self._error


class Restarting(InMemoryTransport):
    """A server that its first `failures` inferences find away."""

    failures = 1

    def infer(self, model: str, input_name: str, items: Sequence[bytes], timeout_s: float | None) -> Answer:
        if self.failures:
            self.failures -= 1
            raise Unavailable(SECRET, retry_after_s=60.0)
        return super().infer(model, input_name, items, timeout_s)


def gateway_of(transport: InMemoryTransport, shop: Shop, timeout_s: float = 20.0) -> Gateway:
    settings = make_settings(
        host="127.0.0.1", port=0, timeout_s=timeout_s, health_s=0, indexes={"shop": shop.index}
    )
    client = AsyncClient(transport=transport, timeout_s=timeout_s)
    return Gateway(client, settings, Indexes(settings.indexes), ClassBanks({}))


def last_line(running: RunningGateway) -> dict[str, object]:
    found: dict[str, object] = json.loads(running.log[-1])
    return found


@pytest.fixture(params=["/search", "/classify"])
def request_bytes(request: pytest.FixtureRequest) -> bytes:
    body = json.dumps(WANTED[request.param])
    head = f"POST {request.param} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()


def test_the_work_for_a_client_that_has_gone_ends(
    memory_model: MemoryModel, shop: Shop, request_bytes: bytes
) -> None:
    waiting = Waiting(memory_model)
    with running_gateway(gateway_of(waiting, shop)) as running:
        with socket.create_connection(("127.0.0.1", running.port), timeout=10) as connection:
            connection.sendall(request_bytes)
            assert waiting.asked.acquire(timeout=20)
        assert waiting.cancelled.wait(20)
        wait_for(lambda: len(running.log) == 1)
        assert last_line(running)["status"] == 499
        assert running.post("/search", {"text": "b"}).status == 200
        assert "requests_in_flight 1.0" in running.get("/metrics").body.decode()


def test_a_client_that_goes_in_the_middle_of_a_body_is_no_fault(
    memory_model: MemoryModel, shop: Shop, request_bytes: bytes
) -> None:
    with running_gateway(gateway_of(InMemoryTransport(memory_model), shop)) as running:
        for number in (20, len(request_bytes) - 3):
            with socket.create_connection(("127.0.0.1", running.port), timeout=10) as connection:
                connection.sendall(request_bytes[:number])
        wait_for(lambda: len(running.log) == 1)
        assert last_line(running)["status"] == 499
        assert running.post("/search", {"text": "b"}).status == 200


@pytest.mark.parametrize("path", WANTED)
def test_a_server_that_restarts_is_away_and_then_back(memory_model: MemoryModel, shop: Shop, path: str) -> None:
    with running_gateway(gateway_of(Restarting(memory_model), shop)) as running:
        away, back = (running.post(path, WANTED[path]) for _ in range(2))
    assert (away.status, away.json["code"], away.headers["retry-after"]) == (503, "unavailable", "60")
    assert back.status == 200


def test_an_alias_is_followed_after_a_fault_that_nobody_knew(
    memory_model: MemoryModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.gateway.health.FOLLOW_S", 0.01)

    class Odd(InMemoryTransport):
        asked = 0

        def ready_models(self, timeout_s: float | None) -> list[str]:
            self.asked += 1
            if self.asked <= 2:
                raise RuntimeError("odd")
            return super().ready_models(timeout_s)

    transport, lines = Odd(memory_model), list[str]()

    async def follow() -> None:
        async with AsyncClient(transport=transport) as client:
            following = asyncio.create_task(follow_alias(client, Log(False, lines.append)))
            while transport.asked < 4:
                assert not following.done()
                await asyncio.sleep(0.01)
            following.cancel()

    asyncio.run(asyncio.wait_for(follow(), 20))
    assert len(lines) == 1
    assert "RuntimeError: odd" in lines[0]


def test_a_client_that_waits_gets_its_answer_while_others_are_asked(memory_model: MemoryModel, shop: Shop) -> None:
    waiting = Waiting(memory_model)
    statuses: list[int] = []
    with running_gateway(gateway_of(waiting, shop)) as running:
        asking = [
            threading.Thread(target=lambda: statuses.append(running.post("/search", {"text": "a"}).status))
            for _ in range(3)
        ]
        for thread in asking:
            thread.start()
        assert all(waiting.asked.acquire(timeout=20) for _ in asking)
        assert running.get("/indexes").status == 200
        waiting.go_on.set()
        for thread in asking:
            thread.join(20)
    assert statuses == [200] * 3


@pytest.mark.parametrize(
    ("error", "status", "code", "retry_after"),
    [
        (Busy(SECRET, 19.2), 429, "busy", "20"),
        (NotAuthorized(SECRET), 502, "server_refused", None),
        (ModelNotFound(SECRET), 404, "model_not_found", None),
        (ServerError(SECRET), 502, "bad_answer", None),
        (Refused(SECRET, "too many items"), 400, "invalid_input", None),
        (RuntimeError(SECRET), 500, "internal_error", None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_a_server_that_fails_is_told_apart_and_not_described(
    memory_model: MemoryModel, shop: Shop, error: Exception, status: int, code: str, retry_after: str | None
) -> None:
    with running_gateway(gateway_of(Failing(memory_model, error), shop, timeout_s=1.0)) as running:
        answer = running.post("/search", {"text": "a"})
        assert (answer.status, answer.json["code"]) == (status, code)
        assert answer.headers.get("retry-after") == retry_after
        assert "10.1.2.3" not in answer.body.decode()
        assert "Traceback" not in answer.body.decode()
        wait_for(lambda: len(running.log) == 1)
        assert last_line(running)["code"] == code
        if status >= 500:
            assert SECRET in str(last_line(running)["detail"])
        assert running.get("/healthz").status in (status, 200 if status == 400 else status)


def test_a_server_that_is_too_slow(memory_model: MemoryModel, shop: Shop) -> None:
    waiting = Waiting(memory_model)
    with running_gateway(gateway_of(waiting, shop, timeout_s=0.3)) as running:
        answer = running.post("/search", {"text": "a"})
        waiting.go_on.set()
    assert (answer.status, answer.json["code"]) == (504, "timeout")


def test_a_server_that_is_away_and_comes_back(shop: Shop, tiny_artifact: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with running_gateway(url=url, indexes={"shop": shop.index}, health_s=0) as running:
        for answer in (
            running.post("/search", {"text": "a"}),
            running.get("/healthz"),
            running.get("/v2/health/ready"),
            running.post("/classify", {"pictures": ["AAAA"], "labels": ["a", "b"]}),
        ):
            assert (answer.status, answer.json["code"], answer.headers["retry-after"]) == (503, "unavailable", "2")
            assert str(port) not in answer.body.decode()
        # What needs no model is answered all the same.
        assert running.get("/indexes").status == 200
        like = running.post("/search", {"like": "red0.png", "k": 2})
        assert (like.status, len(like.json["hits"])) == (200, 2)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ItemError(3, "no picture"), 400),
        (ConfigError("k=0"), 400),
        (DataError("a column"), 400),
        (ModelError("a file"), 503),
        (IndexFileError("damaged"), 503),
        (IndexBusyError("busy"), 503),
        (ProtoclipError("the disk"), 500),
        (ServerError("odd"), 502),
        (Unavailable("away"), 503),
        (NobodyListens("away"), 503),
        (Busy("busy"), 429),
        (DeadlineExceeded("slow"), 504),
        (ModelNotFound("none"), 404),
        (NotAuthorized("token"), 502),
        (CallCancelled("gone"), 503),
        (Refused("url", "bad"), 400),
        (TimeoutError(), 504),
        (HTTPException(405), 405),
        (ZeroDivisionError("a fault"), 500),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_every_error_has_a_status(error: Exception, status: int) -> None:
    refusal = refused(error)
    assert refusal.status == status
    assert refusal.message
    assert (refusal.retry_after_s is not None) == (
        status == 429 or isinstance(error, Unavailable | IndexBusyError | CallCancelled)
    )


def test_every_error_of_ours_is_mapped_on_purpose() -> None:
    """A new kind of error is decided upon here, and does not become a 500 unnoticed."""
    kinds = {kind for kind in _subclasses(ProtoclipError) if kind.__module__.startswith("protoclip.c")}
    decided = {"VerdictError"}
    for kind in kinds - {ItemError, Refused}:
        if kind.__name__ not in decided:
            assert refused(kind("message")).status != 500, kind


def _subclasses(kind: type[Exception]) -> Iterator[type[Exception]]:
    for one in kind.__subclasses__():
        yield one
        yield from _subclasses(one)


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
