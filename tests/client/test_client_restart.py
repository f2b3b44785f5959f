"""One client over the end and the return of its server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from protoclip.client import Client, Unavailable
from protoclip.search import Index
from serving.triton.launcher import LaunchedServer, TritonServer
from serving.triton.ports import Ports

LIMIT_S = 120.0


def _ports(server: LaunchedServer) -> Ports:
    return Ports(*(int(url.rsplit(":", 1)[1]) for url in (server.http_url, server.grpc_url)), 0)


def test_clients_outlive_their_server(tiny_repository: Path) -> None:
    with TritonServer(tiny_repository) as server:
        urls, ports = (server.grpc_url, server.http_url), _ports(server)
        clients = [Client(url, timeout_s=LIMIT_S) for url in urls]
        hasty = [Client(url, timeout_s=10) for url in urls]
        before = [client.embed_texts(["a", "b"]) for client in clients]
        for client in hasty:
            client.embed_texts("a")
    for client in hasty:
        with client, pytest.raises(Unavailable, match="is it running"):
            client.embed_texts("a")
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
        yield from self._take(200)

    def join(self) -> None:
        self._thread.join(LIMIT_S)
        self.next.__exit__(None, None, None)

    def _take(self, number: int) -> Iterator[str]:
        for _ in range(number):
            self.texts.append(f"text {len(self.texts)}")
            yield self.texts[-1]

    def _run(self) -> None:
        self._server.__exit__(None, None, None)
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
    assert len(index) == len(restart.texts) >= 264
    assert index.skipped == ()
    with Client(str(tiny_artifact)) as local:
        vectors = local.embed_texts(restart.texts)
    hits = index.search(vectors, 1)
    np.testing.assert_allclose([found[0].score for found in hits], 1.0, atol=1e-4)
    assert {found[0].id for found in hits} <= {str(number) for number in range(len(restart.texts))}
