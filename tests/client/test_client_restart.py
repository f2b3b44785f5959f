"""One client over the drain, the end and the return of its server."""

from __future__ import annotations

import contextlib
import io
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from PIL import Image
from server_workers import cpu_s, workers

from protoclip.client import Client, DeadlineExceeded, Transport, Unavailable
from protoclip.client.connection import connect
from protoclip.client.errors import Busy, NobodyListens
from protoclip.client.transport import Answer, ModelConfig
from protoclip.contract.errors import ServerError
from protoclip.search import Index
from serving.triton.launcher import LaunchedServer, TritonServer
from serving.triton.ports import Ports

LIMIT_S = 120.0
NUM_TEXTS = int(os.environ.get("PROTOCLIP_BUILD_ITEMS", "264"))
T = TypeVar("T")


class Recorder:
    """A transport that keeps the errors of another one."""

    def __init__(self, transport: Transport) -> None:
        self.url = transport.url
        self.errors: list[ServerError] = []
        self._transport = transport

    def infer(self, model: str, input_name: str, items: Sequence[bytes], timeout_s: float | None) -> Answer:
        return self._keep(lambda: self._transport.infer(model, input_name, items, timeout_s))

    def ready_models(self, timeout_s: float | None) -> list[str]:
        return self._keep(lambda: self._transport.ready_models(timeout_s))

    def model_config(self, model: str, timeout_s: float | None) -> ModelConfig:
        return self._keep(lambda: self._transport.model_config(model, timeout_s))

    def close(self) -> None:
        self._transport.close()

    def _keep(self, ask: Callable[[], T]) -> T:
        try:
            return ask()
        except ServerError as error:
            self.errors.append(error)
            raise


def _ports(server: LaunchedServer) -> Ports:
    return Ports(*(int(url.rsplit(":", 1)[1]) for url in (server.http_url, server.grpc_url)), 0)


def test_clients_outlive_their_server(tiny_repository: Path) -> None:
    with TritonServer(tiny_repository) as server:
        urls, ports = (server.grpc_url, server.http_url), _ports(server)
        clients = [Client(url, timeout_s=LIMIT_S) for url in urls]
        hasty = [Client(url, timeout_s=3) for url in urls]
        before = [client.embed_texts(["a", "b"]) for client in clients]
        for client in hasty:
            client.embed_texts("a")
    with ThreadPoolExecutor(len(hasty)) as pool:
        calls = [pool.submit(client.embed_texts, "a") for client in hasty]
    for client, call in zip(hasty, calls, strict=True):
        with client, pytest.raises((Unavailable, DeadlineExceeded), match="is it running"):
            call.result()
    with TritonServer(tiny_repository, ports=ports):
        for client, vectors in zip(clients, before, strict=True):
            np.testing.assert_allclose(client.embed_texts(["a", "b"]), vectors, atol=1e-6)
            client.close()


class _Restart:
    """Texts that go on while the server drains, stops and starts again; `texts` are those that were taken."""

    def __init__(self, repository: Path, server: TritonServer, ports: Ports) -> None:
        self.texts: list[str] = []
        self.next = TritonServer(repository, ports=ports)
        self.stopped = threading.Event()
        self._server = server
        self._thread = threading.Thread(target=self._run)

    def items(self) -> Iterator[str]:
        yield from self._take(64)
        self._thread.start()
        while not self.stopped.wait(0.01):
            yield from self._take(8)
        yield from self._take(max(200, NUM_TEXTS - len(self.texts)))

    def join(self) -> None:
        self._thread.join(LIMIT_S)
        self.next.__exit__(None, None, None)

    def _take(self, number: int) -> Iterator[str]:
        for _ in range(number):
            self.texts.append(f"text {len(self.texts)}")
            yield self.texts[-1]

    def _run(self) -> None:
        try:
            self._server.__exit__(None, None, None)
        finally:
            self.stopped.set()
        self.next.__enter__()


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_building_an_index_survives_a_restart(
    scheme: str, tiny_repository: Path, tiny_artifact: Path, tmp_path: Path
) -> None:
    server = TritonServer(tiny_repository)
    launched = server.__enter__()
    restart = _Restart(tiny_repository, server, _ports(launched))
    url = launched.grpc_url if scheme == "grpc" else launched.http_url
    try:
        with Client(url, timeout_s=LIMIT_S, batch_size=8) as client:
            index = Index.build(tmp_path / "index", client, texts=restart.items())
    finally:
        restart.join()
        server.__exit__(None, None, None)
    assert restart.stopped.is_set()
    assert len(index) == len(restart.texts) >= NUM_TEXTS
    assert index.skipped == ()
    with Client(str(tiny_artifact)) as local:
        vectors = local.embed_texts(restart.texts)
    hits = index.search(vectors, 1)
    np.testing.assert_allclose([found[0].score for found in hits], 1.0, atol=1e-4)
    assert {found[0].id for found in hits} <= {str(number) for number in range(len(restart.texts))}


def _keep_busy(server: LaunchedServer) -> threading.Thread:
    """Has `server` decode pictures for seconds: it drains for as long before it ends, and takes nothing new."""
    stream = io.BytesIO()
    Image.new("RGB", (9900, 9900)).save(stream, "PNG")

    def ask() -> None:
        transport = connect(server.grpc_url)
        with contextlib.suppress(ServerError):
            transport.infer("tiny_012345_image", "image", [stream.getvalue()] * 8, 60)
        transport.close()

    decoders = workers(server, "image_preprocess")
    thread, before_s, end = threading.Thread(target=ask), cpu_s(decoders), time.monotonic() + LIMIT_S
    thread.start()
    # Only what they compute says that the request has arrived: the server counts it at its end.
    while cpu_s(decoders) < before_s + 0.1 and thread.is_alive() and time.monotonic() < end:
        time.sleep(0.02)
    return thread


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_calls_during_the_drain_are_answered_after_it(scheme: str, tiny_repository: Path) -> None:
    server = TritonServer(tiny_repository)
    launched = server.__enter__()
    recorder = Recorder(connect(launched.grpc_url if scheme == "grpc" else launched.http_url))
    following = TritonServer(tiny_repository, ports=_ports(launched))

    def restart() -> None:
        server.__exit__(None, None, None)
        following.__enter__()

    with Client(transport=recorder, timeout_s=LIMIT_S) as client:
        before = client.embed_texts(["a", "b"])
        threads = [_keep_busy(launched), threading.Thread(target=restart)]
        try:
            threads[1].start()
            while threads[1].is_alive():
                np.testing.assert_allclose(client.embed_texts(["a", "b"]), before, atol=1e-6)
        finally:
            for thread in threads:
                thread.join(LIMIT_S)
            following.__exit__(None, None, None)
    assert {type(error) for error in recorder.errors} <= {Unavailable, Busy, NobodyListens}
    assert any(type(error) in (Unavailable, Busy) for error in recorder.errors), (
        "none was refused while it drained"
    )
