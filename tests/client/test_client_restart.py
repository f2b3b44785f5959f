"""One client over the end and the return of its server."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from protoclip.client import Client, Unavailable
from serving.triton.launcher import TritonServer
from serving.triton.ports import Ports


def test_clients_outlive_their_server(tiny_repository: Path) -> None:
    with TritonServer(tiny_repository) as server:
        clients = [Client(server.grpc_url), Client(server.http_url)]
        before = [client.embed_texts(["a", "b"]) for client in clients]
        ports = [int(url.rsplit(":", 1)[1]) for url in (server.http_url, server.grpc_url)]
    for client in clients:
        with pytest.raises(Unavailable, match="is it running"):
            client.embed_texts("a")
    with TritonServer(tiny_repository, ports=Ports(*ports, 0)):
        for client, vectors in zip(clients, before, strict=True):
            np.testing.assert_allclose(client.embed_texts(["a", "b"]), vectors, atol=1e-6)
            client.close()
