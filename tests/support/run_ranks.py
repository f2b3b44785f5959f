"""Runs a script of tests/ranks on several ranks."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from forked_python import ForkedPython

SCRIPTS = Path(__file__).parents[1] / "ranks"
_LIMIT_S = 300
# Read when torch is loaded: several threads on each of several ranks would wait for each other by spinning.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def run_on_ranks(script: str, num_ranks: int, *arguments: str, exit_code: int = 0) -> None:
    """Runs a script as torchrun would, and fails with what a rank said unless all end with `exit_code`."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port = place.getsockname()[1]
    command = [sys.executable, str(SCRIPTS / script), *arguments]
    world = {"WORLD_SIZE": num_ranks, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": 1}
    with tempfile.TemporaryDirectory() as folder:
        logs = [Path(folder) / f"rank{rank}.log" for rank in range(num_ranks)]
        ranks = [_start(command, world | {"RANK": rank, "LOCAL_RANK": rank}, log) for rank, log in enumerate(logs)]
        try:
            codes = [_code(rank) for rank in ranks]
        finally:
            for rank in ranks:
                rank.kill()
                rank.wait()
            said = "\n".join(log.read_text() for log in logs)
        assert codes == [exit_code] * num_ranks, said


def _start(command: list[str], variables: dict[str, object], log: Path) -> subprocess.Popen[bytes]:
    environment = os.environ | {name: str(value) for name, value in variables.items()}
    with log.open("w") as stream:
        return ForkedPython(command, env=environment, stderr=stream)


def _code(rank: subprocess.Popen[bytes]) -> int | None:
    """None: it still runs after the limit."""
    try:
        return rank.wait(_LIMIT_S)
    except subprocess.TimeoutExpired:
        return None
