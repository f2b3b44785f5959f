"""A gateway on the loopback, before an artifact in its own process and before servers that fail."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from dialect_server import BUDGET_S, serve_gateway
from other_service import OtherService, other_service
from running_gateway import RunningGateway

from protoclip.client import ArtifactTransport, Client, Unavailable
from protoclip.client.transport import Answer


class Flaky(ArtifactTransport):
    """A server that restarts: its next `failures` inferences find it away, for `pause_s` seconds."""

    failures = 0
    pause_s = BUDGET_S

    def infer(self, model: str, input_name: str, items: Sequence[bytes], timeout_s: float | None) -> Answer:
        if self.failures:
            self.failures -= 1
            raise Unavailable(f"{self.url}: it is restarting", retry_after_s=self.pause_s)
        return super().infer(model, input_name, items, timeout_s)


class Slow(ArtifactTransport):
    """A server that answers when it is released."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.release = threading.Event()

    def infer(self, model: str, input_name: str, items: Sequence[bytes], timeout_s: float | None) -> Answer:
        self.release.wait(20)
        return super().infer(model, input_name, items, timeout_s)


@pytest.fixture(scope="session")
def ours(tiny_artifact: Path) -> Iterator[Client]:
    """Our own client of the same model."""
    with Client(str(tiny_artifact)) as client:
        yield client


@pytest.fixture(scope="module")
def served(tiny_artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway with a key, which takes bodies of 1 MiB."""
    with serve_gateway(ArtifactTransport(tiny_artifact), tmp_path_factory.mktemp("keys")) as found:
        yield found


@pytest.fixture
def serve(tiny_artifact: Path, tmp_path: Path) -> Iterator[Callable[..., RunningGateway]]:
    """`serve(transport, **settings)`: another gateway."""
    with ExitStack() as stack:

        def start(transport: ArtifactTransport | None = None, **settings: Any) -> RunningGateway:
            way = ArtifactTransport(tiny_artifact) if transport is None else transport
            return stack.enter_context(serve_gateway(way, tmp_path, **settings))

        yield start


@pytest.fixture
def flaky(tiny_artifact: Path) -> Flaky:
    return Flaky(tiny_artifact)


@pytest.fixture
def slow(tiny_artifact: Path) -> Iterator[Slow]:
    transport = Slow(tiny_artifact)
    yield transport
    transport.release.set()


@pytest.fixture
def other() -> Iterator[OtherService]:
    with other_service() as service:
        yield service
