"""Servers that say "try again": when they are asked again, and what a real Triton with a full queue says."""

from __future__ import annotations

import itertools
import json
import re
import threading
import time
from collections.abc import Hashable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import numpy as np
import pytest
from misbehaving_servers import GOOD_HTTP, grpc_server, http_server, send

from protoclip.client import Client, Refused, Unavailable
from protoclip.client.call import Call
from protoclip.client.connection import connect
from protoclip.client.deadline import Deadline, with_retries
from protoclip.client.errors import Busy, CallCancelled
from protoclip.client.retry_after import of_header
from protoclip.contract.errors import ServerError
from serving.triton.launcher import TritonServer
from serving.triton.repository import write_repository

PAUSE_S = 2
"""Longer than the client's own first pauses together."""


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        (" 120 ", 120.0),
        ("-1", None),
        ("soon", None),
        ("1.5", None),
        ("9" * 401, None),
        ("9" * 5000, None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
    ],
)
def test_retry_after_is_read(value: str | None, seconds: float | None) -> None:
    assert of_header(value) == seconds


def test_a_server_that_asks_for_centuries_is_waited_for() -> None:
    call = Call()
    threading.Timer(0.2, call.cancel).start()
    with pytest.raises(CallCancelled):
        call.pause(1e12)


def test_retry_after_may_be_a_date() -> None:
    found = of_header(formatdate(time.time() + 100, usegmt=True))
    assert found is not None
    assert 90 < found <= 100


Asked = Mapping[Hashable, Future[list[float]]]


def _http_times(status: int) -> list[float]:
    """When a server is asked that answers with `status` once."""
    times: list[float] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        times.append(time.monotonic())
        late = len(times) > 1
        send(handler, *(GOOD_HTTP if late else (status, {"Retry-After": str(PAUSE_S)}, b'{"error": "full"}')))

    with http_server(answer) as url:
        transport = connect(url)
        assert with_retries(transport.ready_models, Deadline(60, url)) == ["tiny_012345_image"]
        transport.close()
    return times


def _grpc_times(code: str, metadata: tuple[str, str]) -> list[float]:
    """As `_http_times`."""
    seen: list[float] = []
    with grpc_server(seen, 1, refusal=(code, "full", (metadata,))) as url:
        transport = connect(url)
        assert with_retries(transport.ready_models, Deadline(60, url)) == ["tiny_012345_image"]
        transport.close()
    return seen


STATUSES = (429, 502, 503, 504)
CODES = ("RESOURCE_EXHAUSTED", "UNAVAILABLE")
METADATA = (("retry-after", str(PAUSE_S)), ("grpc-retry-pushback-ms", "2000"))


@pytest.fixture(scope="module")
def asked() -> Iterator[Asked]:
    """When each server of the tests below was asked; they are waited for together."""
    refusals = list(itertools.product(CODES, METADATA))
    with ThreadPoolExecutor(len(STATUSES) + len(refusals)) as pool:
        http = {status: pool.submit(_http_times, status) for status in STATUSES}
        yield http | {refusal: pool.submit(_grpc_times, *refusal) for refusal in refusals}


class TestHttp:
    @pytest.mark.parametrize("status", STATUSES)
    def test_is_asked_again_when_it_wants_to_be(self, status: int, asked: Asked) -> None:
        times = asked[status].result()
        assert len(times) == 2
        assert times[1] - times[0] >= PAUSE_S

    def test_is_not_waited_for_beyond_the_budget(self) -> None:
        seen: list[int] = []

        def answer(handler: BaseHTTPRequestHandler) -> None:
            seen.append(1)
            send(handler, 429, {"Retry-After": "3600"}, b'{"error": "full"}')

        with (
            http_server(answer) as url,
            Client(url, timeout_s=60) as client,
            pytest.raises(Unavailable, match="full"),
        ):
            client.embed_texts("a")
        assert len(seen) == 1


class TestGrpc:
    @pytest.mark.parametrize("code", CODES)
    @pytest.mark.parametrize("metadata", METADATA)
    def test_is_asked_again_when_it_wants_to_be(self, code: str, metadata: tuple[str, str], asked: Asked) -> None:
        seen = asked[code, metadata].result()
        assert len(seen) == 2
        assert seen[1] - seen[0] >= PAUSE_S

    @pytest.mark.parametrize(
        "details",
        [
            "Received message larger than max (5 vs. 4)",
            "more than 75497472 bytes in a call: send fewer items at once",
        ],
    )
    def test_a_message_that_is_too_large_stays_so(self, details: str) -> None:
        seen: list[float] = []
        with grpc_server(seen, 1, refusal=("RESOURCE_EXHAUSTED", details, ())) as url:
            transport = connect(url)
            with pytest.raises(Refused, match=re.escape(details)):
                with_retries(transport.ready_models, Deadline(60, url))
            transport.close()
        assert len(seen) == 1


LARGE = "the server decodes other large pictures now: try again"


@pytest.mark.parametrize(
    ("status", "reason", "way_out"),
    [
        (503, LARGE, "it takes no more now"),
        (503, "Request timeout expired", "it takes no more now"),
        (429, "slower", "it is too busy, starting or stopping"),
        (503, "the server is starting", "it is too busy, starting or stopping"),
        (504, "upstream request timeout", "it is too busy, starting or stopping"),
    ],
)
def test_who_answers_is_not_to_be_started(status: int, reason: str, way_out: str) -> None:
    with http_server(lambda handler: send(handler, status, {}, json.dumps({"error": reason}).encode())) as url:
        transport = connect(url)
        with pytest.raises(Busy, match=f"{reason}: {way_out}") as error:
            transport.ready_models(60)
        transport.close()
    assert "protoclip serve" not in str(error.value)


def test_what_a_model_says_over_grpc_is_no_missing_server() -> None:
    with grpc_server([], 1, refusal=("UNAVAILABLE", LARGE, ())) as url:
        transport = connect(url)
        with pytest.raises(Busy, match=f"{LARGE}: it takes no more now"):
            transport.ready_models(60)
        transport.close()


DEAD = "in ensemble 'tiny_012345_text', Stub process 'tiny_012345_text_encoder_0_0' is not healthy."


def test_a_model_whose_process_ended_is_asked_again_over_http() -> None:
    seen: list[int] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        seen.append(1)
        send(handler, *(GOOD_HTTP if len(seen) > 1 else (500, {}, json.dumps({"error": DEAD}).encode())))

    with http_server(answer) as url:
        transport = connect(url)
        assert with_retries(transport.ready_models, Deadline(60, url)) == ["tiny_012345_image"]
        transport.close()
    assert len(seen) == 2


def test_a_model_whose_process_ended_is_asked_again_over_grpc() -> None:
    seen: list[float] = []
    with grpc_server(seen, 1, refusal=("INTERNAL", DEAD, ())) as url:
        transport = connect(url)
        assert with_retries(transport.ready_models, Deadline(60, url)) == ["tiny_012345_image"]
        transport.close()
    assert len(seen) == 2


@pytest.mark.parametrize("reason", ["ONNX Runtime: a stub", "the process is not healthy"])
def test_other_failures_of_a_model_are_told_at_once(reason: str) -> None:
    with http_server(lambda handler: send(handler, 500, {}, json.dumps({"error": reason}).encode())) as url:
        transport = connect(url)
        with pytest.raises(ServerError, match=reason) as error:
            with_retries(transport.ready_models, Deadline(60, url))
        transport.close()
    assert not isinstance(error.value, Unavailable)


@pytest.fixture(scope="module")
def narrow_repository(tiny_artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What prepares its texts holds one request in its queue."""
    repository = tmp_path_factory.mktemp("narrow")
    write_repository(tiny_artifact, repository, encoder_threads=1)
    for config in repository.glob("*text_preprocess/config.pbtxt"):
        text, number = re.subn(r"max_queue_size: \d+", "max_queue_size: 1", config.read_text())
        assert number == 1
        config.write_text(text)
    return repository


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_a_full_queue_of_triton(scheme: str, narrow_repository: Path) -> None:
    texts = ["x " * 400] * 16
    with TritonServer(narrow_repository) as server:
        url = server.grpc_url if scheme == "grpc" else server.http_url
        transport = connect(url)
        name = next(name for name in transport.ready_models(20) if name.endswith("_text"))

        def ask(_: int) -> Exception | None:
            try:
                transport.infer(name, "text", [text.encode() for text in texts], 60)
            except Exception as error:  # noqa: BLE001 - all are looked at
                return error
            return None

        with ThreadPoolExecutor(16) as pool:
            errors = [error for error in pool.map(ask, range(32)) if error is not None]
        transport.close()
        assert errors, "the queue was never full"
        assert {type(error) for error in errors} == {Busy}
        assert all("Exceeds maximum queue size" in str(error) for error in errors)
        with Client(url, timeout_s=120, concurrency=16, batch_size=16) as client:
            vectors = client.embed_texts(texts * 16)
            np.testing.assert_allclose(vectors, np.broadcast_to(vectors[0], vectors.shape), atol=1e-6)
