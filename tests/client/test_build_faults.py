"""What happens to a server while an index is built: in the end every item is there once, with the right vector.

`make build-faults` has 5,000 items. A server that is restarted: test_client_restart.py.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from misbehaving_relay import Relay, relay
from numpy.typing import NDArray
from onnx import numpy_helper
from other_artifacts import other_artifact, resign

from protoclip.client import Client, DeadlineExceeded, ModelNotFound, Unavailable
from protoclip.client.grpc_transport import GrpcTransport
from protoclip.contract.errors import IndexFileError, ServerError
from protoclip.contract.manifest import load_manifest
from protoclip.contract.text import Tokenizer
from protoclip.search import BuildProgress, Index
from serving.triton.launcher import LaunchedServer, TritonServer
from serving.triton.repository import write_repository

NUM_TEXTS = int(os.environ.get("PROTOCLIP_BUILD_ITEMS", "600"))
TEXTS = [f"zebra {number}" for number in range(NUM_TEXTS)]
BUDGET_S = 30.0
Fault = Callable[[], object]


@pytest.fixture(scope="module")
def expected(tiny_artifact: Path) -> NDArray[np.float32]:
    with Client(str(tiny_artifact)) as client:
        return client.embed_texts(TEXTS)


@pytest.fixture(scope="module")
def of_another_model(tiny_artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LaunchedServer]:
    folder = tmp_path_factory.mktemp("another")
    with _served(other_artifact(tiny_artifact, folder / "artifact", "fedcba9876543210"), folder) as server:
        yield server


@pytest.fixture(scope="module")
def of_nan(tiny_artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LaunchedServer]:
    """The same model by its names and fingerprint, whose every vector of a text with a zebra is NaN."""
    folder = tmp_path_factory.mktemp("nan")
    artifact = shutil.copytree(tiny_artifact, folder / "artifact")
    spec = load_manifest(artifact).text
    tokens = Tokenizer((artifact / "tokenizer.json").read_text(encoding="utf-8"), spec).encode(["zebra", "ready"])
    graph = onnx.load(artifact / "text.onnx")
    table = next(tensor for tensor in graph.graph.initializer if tensor.name == "table")
    values = numpy_helper.to_array(table).copy()
    values[sorted(set(tokens[0]) - set(tokens[1]))] = np.nan
    table.CopyFrom(numpy_helper.from_array(values, "table"))
    onnx.save(graph, artifact / "text.onnx")
    resign(artifact)
    with _served(artifact, folder) as server:
        yield server


def _served(artifact: Path, folder: Path) -> TritonServer:
    write_repository(artifact, folder / "repository", encoder_threads=1)
    return TritonServer(folder / "repository")


@pytest.fixture(params=["grpc", "http"])
def between(request: pytest.FixtureRequest, triton: LaunchedServer) -> Iterator[Relay]:
    """A relay before the good server for each protocol; `between.scheme` says for which."""
    with relay(_port(triton, request.param)) as made:
        made.scheme = request.param  # type: ignore[attr-defined]
        yield made


def _port(server: LaunchedServer, scheme: str) -> int:
    return int((server.grpc_url if scheme == "grpc" else server.http_url).rsplit(":", 1)[1])


def _client(between: Relay, timeout_s: float = BUDGET_S) -> Client:
    if between.scheme == "http":  # type: ignore[attr-defined]
        return Client(f"http://127.0.0.1:{between.port}", timeout_s=timeout_s)
    return Client(transport=GrpcTransport("127.0.0.1", between.port, keepalive_s=1.0), timeout_s=timeout_s)


def _texts(faults: dict[int, Fault]) -> Iterator[str]:
    """All texts; a fault begins when so many have been taken."""
    for number, text in enumerate(TEXTS):
        if number in faults:
            faults[number]()
        yield text


def _build(between: Relay, path: Path, faults: dict[int, Fault], timeout_s: float = BUDGET_S) -> int:
    """How many items an earlier build had embedded."""
    progress: list[BuildProgress] = []
    with _client(between, timeout_s) as client:
        Index.build(path, client, texts=_texts(faults), progress=progress.append).close()
    return progress[-1].resumed


def _check(path: Path, expected: NDArray[np.float32]) -> None:
    with Index.open(path) as index:
        assert index.skipped == ()
        entries = {entry.id: entry for entry in index.iterate()}
        assert len(index) == len(entries) == NUM_TEXTS
        for number, text in enumerate(TEXTS):
            entry = entries[str(number)]
            assert entry.metadata == {"text": text}
            np.testing.assert_allclose(entry.vector, expected[number], atol=1e-5)


def test_slow(between: Relay, tmp_path: Path, expected: NDArray[np.float32]) -> None:
    faults = {NUM_TEXTS // 3: lambda: between.be_slow(10, 0.3)}
    assert _build(between, tmp_path / "index", faults) == 0
    _check(tmp_path / "index", expected)


def test_slower_than_the_budget(between: Relay, tmp_path: Path, expected: NDArray[np.float32]) -> None:
    with pytest.raises((DeadlineExceeded, Unavailable)):
        _build(between, tmp_path / "index", {NUM_TEXTS // 2: lambda: between.be_slow(100, 1.5)}, timeout_s=1.0)
    between.be_slow(0, 0.0)
    assert _build(between, tmp_path / "index", {}) >= NUM_TEXTS // 4
    _check(tmp_path / "index", expected)


def test_half_open(between: Relay, tmp_path: Path, expected: NDArray[np.float32]) -> None:
    faults = {NUM_TEXTS // 2: between.kill_connections}
    if between.scheme == "grpc":  # type: ignore[attr-defined]
        # Left after 1.5 s without a sign of life.
        assert _build(between, tmp_path / "index", faults) == 0
    else:
        with pytest.raises(DeadlineExceeded):
            _build(between, tmp_path / "index", faults, timeout_s=2.0)
        assert _build(between, tmp_path / "index", {}) >= NUM_TEXTS // 4
    _check(tmp_path / "index", expected)


def test_of_another_model(
    between: Relay,
    triton: LaunchedServer,
    of_another_model: LaunchedServer,
    tmp_path: Path,
    expected: NDArray[np.float32],
) -> None:
    scheme = between.scheme  # type: ignore[attr-defined]
    faults = {NUM_TEXTS // 2: lambda: between.turn_to(_port(of_another_model, scheme))}
    with pytest.raises(ModelNotFound, match="is not served any more"):
        _build(between, tmp_path / "index", faults)
    with pytest.raises(IndexFileError, match="its build isn't finished"):
        Index.open(tmp_path / "index")
    between.turn_to(_port(triton, scheme))
    assert _build(between, tmp_path / "index", {}) >= NUM_TEXTS // 4
    _check(tmp_path / "index", expected)


def test_returning_nan(
    between: Relay, triton: LaunchedServer, of_nan: LaunchedServer, tmp_path: Path, expected: NDArray[np.float32]
) -> None:
    scheme = between.scheme  # type: ignore[attr-defined]
    with _client(between) as client:
        Index.build(tmp_path / "index", client, texts=["before"]).close()
    faults = {NUM_TEXTS // 2: lambda: between.turn_to(_port(of_nan, scheme))}
    with pytest.raises(ServerError, match="isn't 16 finite numbers"):
        _build(between, tmp_path / "index", faults)
    with Index.open(tmp_path / "index") as index:
        assert [entry.metadata for entry in index.iterate()] == [{"text": "before"}]
    between.turn_to(_port(triton, scheme))
    assert _build(between, tmp_path / "index", {}) >= NUM_TEXTS // 4
    _check(tmp_path / "index", expected)
