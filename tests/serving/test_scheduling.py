"""Queues of a real server: who goes first, and what becomes of those for whom there is no room."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from server_workers import stopped, workers

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


def _picture() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (40, 40)).save(stream, "PNG")
    return stream.getvalue()


PICTURE = _picture()


@dataclass
class Calls:
    """Requests from threads, in the order in which they were answered."""

    transport: Transport
    answered: list[Any] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)

    def start(self, name: str, priority: int = UNMARKED) -> None:
        def ask() -> None:
            try:
                with sent_with(priority):
                    self.transport.infer(IMAGE, "image", [PICTURE], 60)
                self.answered.append(name)
            except Unavailable as error:
                self.answered.append((name, str(error)))

        self.threads.append(threading.Thread(target=ask))
        self.threads[-1].start()
        # So that they stand in the queue in this order.
        time.sleep(0.1)

    def wait(self) -> list[Any]:
        for thread in self.threads:
            thread.join()
        return self.answered


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


@contextmanager
def held(server: LaunchedServer, scheme: str) -> Iterator[Calls]:
    """Its first request is taken by a worker that is stopped until the block ends; all others wait meanwhile."""
    transport = connect(server.grpc_url if scheme == "grpc" else server.http_url)
    calls = Calls(transport)
    try:
        with stopped(workers(server, "image_preprocess")):
            calls.start("first")
            yield calls
        calls.wait()
    finally:
        transport.close()


def test_interactive_requests_go_first(make_server: Callable[..., LaunchedServer], scheme: str) -> None:
    with held(make_server(), scheme) as calls:
        calls.start("bulk", BULK)
        calls.start("unmarked")
        calls.start("lone", INTERACTIVE)
    assert calls.answered == ["first", "lone", "unmarked", "bulk"]


def test_a_full_queue_says_so_at_once(make_server: Callable[..., LaunchedServer], scheme: str) -> None:
    with held(make_server(max_queued=2, queue_timeout_s=0.3), scheme) as calls:
        for name in ("a", "b", "c"):
            calls.start(name)
        calls.start("lone", INTERACTIVE)
        assert len(calls.answered) == 1
    ((name, reason),) = [answer for answer in calls.answered if answer[0] == "c"]
    assert (name, "Exceeds maximum queue size" in reason) == ("c", True)


def test_who_waited_for_too_long_is_told_to_try_again(
    make_server: Callable[..., LaunchedServer], scheme: str
) -> None:
    with held(make_server(max_queued=2, queue_timeout_s=0.3), scheme) as calls:
        calls.start("late")
        time.sleep(0.4)
    assert "first" in calls.answered
    ((name, reason),) = [answer for answer in calls.answered if answer != "first"]
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
    assert configs["text_preprocess"].instance_group[0].count == 1
    assert configs["image"].parameters["bulk_batch_size"].string_value == "4"


def test_batches_are_no_larger_than_the_server_takes(tiny_artifact: Path) -> None:
    configs = model_configs(load_manifest(tiny_artifact), max_batch_size=4, encoder_threads=1)
    assert configs["text"].parameters["bulk_batch_size"].string_value == "4"
    assert list(configs["text_encoder"].dynamic_batching.preferred_batch_size) == []
