"""Queues of a real server: who goes first, and what becomes of those for whom there is no room."""

from __future__ import annotations

import io
import re
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from server_workers import workers

from protoclip.client import Client, InMemoryTransport, MemoryModel, Unavailable
from protoclip.client.connection import connect
from protoclip.client.priority import current_priority, sent_with
from protoclip.client.transport import Answer, Transport
from protoclip.contract.errors import ConfigError
from protoclip.contract.manifest import load_manifest
from protoclip.contract.priorities import BULK, INTERACTIVE, UNMARKED
from serving.triton.launcher import LaunchedServer, TritonServer
from serving.triton.pbtxt import model_configs
from serving.triton.repository import write_repository
from serving.triton.scheduling import Scheduling

IMAGE = "tiny_012345_image"
PATIENT = {"max_queued": 2, "queue_timeout_s": 60.0}
ATTEMPTS = 8
WAIT_S = 60.0
TICKS = 3
"""Of the processor: a worker that waits takes none."""


def _picture(side: int) -> bytes:
    """Long to decode for its size."""
    stream = io.BytesIO()
    Image.radial_gradient("L").resize((side, side)).convert("RGB").save(stream, "WEBP", lossless=True, method=0)
    return stream.getvalue()


SLOW, SLOWER = _picture(3000), _picture(6200)
"""0.2 s and 0.7 s of a core: each longer than what else happens to a request."""


class TooLate(Exception):
    """The machine was so slow that the first request was answered before the others had come."""


class Calls:
    """Requests from threads, in the order in which they were answered.

    The first is decoded meanwhile by the only worker. No process is stopped for that: Triton ends where a worker
    does not answer for a second, which on a busy machine is soon over.
    """

    def __init__(self, server: LaunchedServer, transport: Transport) -> None:
        self.answered: list[Any] = []
        self._server, self._transport = server, transport
        self._threads: list[threading.Thread] = []

    def begin(self) -> None:
        """Sends the first, and returns when it is being decoded."""
        (worker,) = workers(self._server, "image_preprocess")
        before = _ticks(worker)
        self._send("first", UNMARKED, SLOWER)
        self.wait_for(lambda: _ticks(worker) >= before + TICKS)

    def start(self, name: str, priority: int = UNMARKED, *, queued: int | None) -> None:
        """Sends one more, and returns when so many wait."""
        self._send(name, priority, SLOW)
        if queued is not None:
            self.wait_for(lambda: _queued(self._server) == queued)

    def wait_for(self, reached: Callable[[], bool]) -> None:
        """Raises TooLate where the first is answered before."""
        deadline = time.monotonic() + WAIT_S
        while not reached():
            assert time.monotonic() < deadline, self.answered
            self.check()
            time.sleep(0.005)
        self.check()

    def check(self) -> None:
        """Raises TooLate where the first is answered, or had to wait itself."""
        if any(answer == "first" or answer[0] == "first" for answer in tuple(self.answered)):
            raise TooLate

    def wait(self) -> None:
        for thread in self._threads:
            thread.join()

    def _send(self, name: str, priority: int, picture: bytes) -> None:
        def ask() -> None:
            try:
                with sent_with(priority):
                    self._transport.infer(IMAGE, "image", [picture], WAIT_S)
                self.answered.append(name)
            except Unavailable as error:
                self.answered.append((name, str(error)))

        self._threads.append(threading.Thread(target=ask))
        self._threads[-1].start()


def _ticks(worker: int) -> int:
    fields = Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _queued(server: LaunchedServer) -> int:
    """Requests that wait for the preprocessing, without the one that is in it."""
    with urllib.request.urlopen(server.metrics_url, timeout=WAIT_S) as answer:
        text = answer.read().decode()
    found = re.search(
        rf'^nv_inference_pending_request_count{{model="{IMAGE}_preprocess",.*}} (\d+)', text, re.MULTILINE
    )
    assert found is not None
    return int(found[1])


@pytest.fixture(scope="module")
def make_server(
    tiny_artifact: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., LaunchedServer]]:
    """One picture at a time; two servers at most, which live as long as the module's tests."""
    with ExitStack() as stack:

        @cache
        def make(**settings: Any) -> LaunchedServer:
            repository = tmp_path_factory.mktemp("queues")
            scheduling = Scheduling(preprocess_instances=1, **settings)
            write_repository(tiny_artifact, repository, max_batch_size=1, encoder_threads=1, scheduling=scheduling)
            return stack.enter_context(TritonServer(repository))

        yield make


@pytest.fixture(params=["grpc", "http"])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def while_first_is_decoded(server: LaunchedServer, scheme: str, rest: Callable[[Calls], None]) -> list[Any]:
    """What was answered, in order, where `rest` was done before the first request was."""
    with closing(connect(server.grpc_url if scheme == "grpc" else server.http_url)) as transport:
        for _ in range(ATTEMPTS):
            calls = Calls(server, transport)
            try:
                calls.begin()
                rest(calls)
                calls.check()
            except TooLate:
                continue
            finally:
                calls.wait()
            return calls.answered
    raise AssertionError("the first request was always answered before the others had come")


def _without_first(answered: list[Any]) -> list[Any]:
    """The encoder of a busy machine may get it together with those decoded after it: by priority then."""
    assert "first" in answered
    return [name for name in answered if name != "first"]


def test_interactive_requests_go_first(make_server: Callable[..., LaunchedServer], scheme: str) -> None:
    def rest(calls: Calls) -> None:
        calls.start("bulk", BULK, queued=1)
        calls.start("unmarked", queued=2)
        calls.start("lone", INTERACTIVE, queued=3)

    answered = while_first_is_decoded(make_server(**PATIENT), scheme, rest)
    assert _without_first(answered) == ["lone", "unmarked", "bulk"]


def test_a_full_queue_says_so_at_once(make_server: Callable[..., LaunchedServer], scheme: str) -> None:
    def rest(calls: Calls) -> None:
        calls.start("a", queued=1)
        calls.start("b", queued=2)
        calls.start("c", queued=None)
        calls.wait_for(lambda: bool(calls.answered))
        calls.start("lone", INTERACTIVE, queued=3)

    (name, reason), *others = while_first_is_decoded(make_server(**PATIENT), scheme, rest)
    assert (name, "Exceeds maximum queue size" in reason) == ("c", True)
    assert _without_first(others) == ["lone", "a", "b"]


def test_who_waited_for_too_long_is_told_to_try_again(
    make_server: Callable[..., LaunchedServer], scheme: str
) -> None:
    def rest(calls: Calls) -> None:
        calls.start("late", queued=1)
        time.sleep(0.3)

    answered = while_first_is_decoded(make_server(max_queued=2, queue_timeout_s=0.2), scheme, rest)
    assert "first" in answered
    ((name, reason),) = [answer for answer in answered if answer != "first"]
    assert (name, "timeout expired" in reason) == ("late", True)


def test_settings_out_of_range_are_named() -> None:
    with pytest.raises(ConfigError, match="max_queued=0 is out of range: use 1 to 100000"):
        Scheduling(max_queued=0)


class Recorder(InMemoryTransport):
    """Notes size and priority of requests, and says the server's batch for bulk."""

    def __init__(self) -> None:
        super().__init__(MemoryModel(lambda data: np.ones(4), lambda text: np.ones(4), 4, bulk_batch_size=4))
        self.seen: list[tuple[int, int]] = []

    def infer(self, model: str, input_name: str, items: list[bytes], timeout_s: float | None) -> Answer:  # type: ignore[override]
        self.seen.append((len(items), current_priority()))
        return super().infer(model, input_name, items, timeout_s)


def test_clients_mark_their_requests() -> None:
    transport = Recorder()
    with Client(transport=transport, concurrency=1) as client:
        client.embed_texts("one")
        client.embed_texts(["one", "two"])
        client.embed_texts(["a"] * 10)
        list(client.stream_texts(["b"]))
    assert transport.seen == [(1, 1), (2, 1), (4, 3), (4, 3), (2, 1), (1, 3)]


def test_a_server_of_an_earlier_version_sets_no_batch_for_bulk() -> None:
    plain = InMemoryTransport(MemoryModel(lambda data: np.ones(4), lambda text: np.ones(4), 4, max_batch_size=9))
    with Client(transport=plain) as client:
        assert client.model.bulk_batch_size == 9


def test_settings_reach_the_models_that_they_are_for(tiny_artifact: Path) -> None:
    manifest = load_manifest(tiny_artifact)
    scheduling = Scheduling(
        bulk_batch_size=4,
        queue_delay_us=700,
        max_queued=5,
        queue_timeout_s=1.5,
        preprocess_instances=3,
        preprocess_threads=6,
    )
    configs = model_configs(manifest, max_batch_size=16, encoder_threads=1, scheduling=scheduling)
    for role in ("image_preprocess", "text_preprocess", "image_encoder", "text_encoder"):
        batching = configs[role].dynamic_batching  # type: ignore[index]
        assert (list(batching.preferred_batch_size), batching.max_queue_delay_microseconds) == ([4], 700)
        policy = batching.default_queue_policy
        assert (policy.max_queue_size, policy.default_timeout_microseconds) == (5, 1_500_000)
        assert not policy.allow_timeout_override, "clients must not wait for longer than they may"
    assert configs["image_preprocess"].instance_group[0].count == 3
    assert configs["image_preprocess"].parameters["decode_threads"].string_value == "6"
    assert configs["text_preprocess"].instance_group[0].count == 2
    assert configs["image"].parameters["bulk_batch_size"].string_value == "4"


def test_no_queue_has_a_single_instance(tiny_artifact: Path) -> None:
    """Triton 2.51 lets requests wait for half a second behind such a one."""
    configs = model_configs(load_manifest(tiny_artifact), max_batch_size=64, encoder_threads=0)
    queues = [config for config in configs.values() if config.HasField("dynamic_batching")]
    assert len(queues) == 4
    assert min(config.instance_group[0].count for config in queues) == 2


def test_batches_are_no_larger_than_the_server_takes(tiny_artifact: Path) -> None:
    configs = model_configs(load_manifest(tiny_artifact), max_batch_size=4, encoder_threads=1)
    assert configs["text"].parameters["bulk_batch_size"].string_value == "4"
    assert list(configs["text_encoder"].dynamic_batching.preferred_batch_size) == []
