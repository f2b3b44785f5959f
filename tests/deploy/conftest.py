"""What the templates are run on: 24 pairs, a launcher's environment without GPUs, and a proxied server."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import Popen
from typing import TYPE_CHECKING

import pytest
from local_proxy import LocalProxy, local_proxy
from PIL import Image

from protoclip.runs.metrics import read_metrics

if TYPE_CHECKING:
    from serving.triton.launcher import LaunchedServer


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A TOML file of a run of 20 steps."""
    lines = ["image,text"]
    for number in range(24):
        Image.new("RGB", (24, 24), (number * 10, 255 - number * 10, 40)).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,colour number {number}")
    (tmp_path / "pairs.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "shop.toml").write_text(
        'data.path = "pairs.csv"\n'
        'model.name = "protoclip-mini-48"\n'
        "model.head = {hidden_dim = 16, projection_dim = 8}\n"
        "clustering = {num_prototypes = 3, num_iterations = 2, num_restarts = 1}\n"
        "episode.repeats = 3\n"
        "optim.learning_rate = 1e-4\n"
        'train = {batch_size = 8, steps = 20, num_workers = 0, log_every_steps = 1, device = "cpu"}\n'
    )
    return tmp_path / "shop.toml"


@pytest.fixture
def environment() -> dict[str, str]:
    """With the commands of this environment in front, and one thread."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


@pytest.fixture
def wait_for_steps() -> Callable[[Path, list[Popen[str]]], None]:
    """Returns when a run's first steps are logged; fails if one of its processes ends before."""

    def wait(run: Path, processes: list[Popen[str]]) -> None:
        until = time.monotonic() + 200
        while not (run / "metrics.jsonl").exists() or not read_metrics(run):
            assert time.monotonic() < until
            ended = [process for process in processes if process.poll() is not None]
            assert not ended, ended[0].communicate()[0]
            time.sleep(0.1)

    return wait


@pytest.fixture(scope="session")
def measured_server(tiny_repository: Path) -> Iterator[LaunchedServer]:
    """A server with all metrics that the image's command asks for."""
    from serving.triton.launcher import TritonServer

    with TritonServer(tiny_repository, latency_summaries=True) as server:
        yield server


@pytest.fixture(scope="session")
def proxy(measured_server: LaunchedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalProxy]:
    """The proxy of deploy/compose in front of `measured_server`."""
    pytest.importorskip("envoy", reason="the proxy is not installed: make check-deploy")
    folder = tmp_path_factory.mktemp("proxy") / "etc"
    with local_proxy(folder, measured_server.http_url, measured_server.grpc_url) as started:
        yield started
