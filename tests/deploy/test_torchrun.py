"""The template for plain torchrun: two hosts are two launchers on this machine, with a gloo rank each."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import Popen

import pytest

from protoclip.runs.metrics import read_metrics
from protoclip.training.checkpoint import last_checkpoint

SCRIPT = Path(__file__).parents[2] / "deploy" / "torchrun" / "train.sh"


@pytest.fixture
def start(config: Path, tmp_path: Path, environment: dict[str, str]) -> Iterator[Callable[[], list[Popen[str]]]]:
    """Starts both hosts' launchers; what is left of them is killed in the end."""
    started: list[Popen[str]] = []

    def start() -> list[Popen[str]]:
        with socket.socket() as place:
            place.bind(("127.0.0.1", 0))
            first = f"127.0.0.1:{place.getsockname()[1]}"
        for number in ("0", "1"):
            words = [str(SCRIPT), number, first, str(config), "--out", str(tmp_path / "run"), "--quiet"]
            both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
            started.append(Popen(words, text=True, env={**environment, "RANKS_PER_HOST": "1"}, **both))
        return started[-2:]

    yield start
    for process in started:
        process.kill()
    for process in started:
        process.communicate()


def test_a_signal_to_each_host_saves_and_a_new_start_finishes(
    start: Callable[[], list[Popen[str]]],
    wait_for_steps: Callable[[Path, list[Popen[str]]], None],
    tmp_path: Path,
) -> None:
    """The second host's signal comes when its rank has agreed to stop on the first one's."""
    run = tmp_path / "run"
    hosts = start()
    wait_for_steps(run, hosts)
    for process in hosts:
        process.send_signal(signal.SIGTERM)
    said = [process.communicate(timeout=300)[0] for process in hosts]
    assert "go on with --resume" in said[0]
    # A launcher's own code: that of its ranks is 143.
    assert [process.returncode for process in hosts] == [1, 1]
    assert last_checkpoint(run) is not None
    hosts = start()
    said = [process.communicate(timeout=200)[0] for process in hosts]
    assert [process.returncode for process in hosts] == [0, 0], said
    assert (run / "model.safetensors").exists()
    assert [line["step"] for line in read_metrics(run) if line["kind"] == "step"] == list(range(1, 21))


def test_without_arguments_it_says_how() -> None:
    found = subprocess.run([SCRIPT], capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert found.stderr.startswith("usage:")
