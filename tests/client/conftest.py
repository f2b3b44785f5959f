"""The client over each of its transports, pictures, and what it has to answer for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from picture_bytes import saved
from PIL import Image

from protoclip.client import Client, InMemoryTransport, MemoryModel


@pytest.fixture(params=["memory", "artifact", "grpc", "http"])
def make_client(
    request: pytest.FixtureRequest, memory_model: MemoryModel, tiny_artifact: Path
) -> Iterator[Callable[..., Client]]:
    """`make_client(**options)` over each of the transports."""
    clients: list[Client] = []

    def make(**options: Any) -> Client:
        if request.param == "memory":
            clients.append(Client(transport=InMemoryTransport(memory_model), **options))
        elif request.param == "artifact":
            clients.append(Client(str(tiny_artifact), **options))
        else:
            server = request.getfixturevalue("triton")
            clients.append(Client(server.grpc_url if request.param == "grpc" else server.http_url, **options))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def client(make_client: Callable[..., Client]) -> Client:
    return make_client()


@pytest.fixture(scope="module")
def arrays() -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (20 + row, 40 - row, 3), dtype=np.uint8) for row in range(19)]


@pytest.fixture(scope="module")
def expected(arrays: list[NDArray[np.uint8]], memory_model: MemoryModel) -> NDArray[np.float32]:
    """One picture at a time, without a client."""
    return np.stack([np.asarray(memory_model.embed_image(saved(Image.fromarray(array)))) for array in arrays])
