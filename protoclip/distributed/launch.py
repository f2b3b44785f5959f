"""Launches several ranks on this machine, each with the same command."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from types import FrameType

from protoclip.contract.errors import ConfigError

from .interruption import LAUNCHER

_POLL_S = 0.1
_GRACE_S = 30.0


def run_on_ranks(num_ranks: int, arguments: Sequence[str]) -> int:
    """Runs `protoclip ARGUMENTS` on every rank and returns the exit code of the first that failed, or 0.

    SIGINT and SIGTERM are passed on to the ranks, which end as one process would. If a rank fails, the others
    get 30 s to end by themselves. Each has its share of the cores, unless OMP_NUM_THREADS is set.

    Raises:
        ConfigError: this process is a rank itself.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("--ranks: this process is a rank of a launcher already: leave the option out")
    port = _free_port()
    ranks = [_start(rank, num_ranks, port, arguments) for rank in range(num_ranks)]

    def forward(number: int, frame: FrameType | None) -> None:
        for process in ranks:
            process.send_signal(number)

    before = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return _wait(ranks)
    finally:
        for process in ranks:
            process.kill()
            process.wait()
        for number, handler in before.items():
            signal.signal(number, handler)


def _start(rank: int, num_ranks: int, port: int, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    world = {
        LAUNCHER: os.getpid(),
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": num_ranks,
        "LOCAL_WORLD_SIZE": num_ranks,
        "MASTER_ADDR": "127.0.0.1",
    }
    threads = {"OMP_NUM_THREADS": str(max(1, len(os.sched_getaffinity(0)) // num_ranks))}
    environment = threads | os.environ | {name: str(value) for name, value in world.items()}
    command = [sys.executable, "-m", "protoclip", *arguments]
    # In a session of its own: Ctrl-C in the terminal then reaches the rank only once, through the parent.
    return subprocess.Popen(command, env={**environment, "MASTER_PORT": str(port)}, start_new_session=True)


def _wait(ranks: list[subprocess.Popen[bytes]]) -> int:
    while True:
        codes = [process.poll() for process in ranks]
        failed = next((code for code in codes if code), None)
        if failed is not None:
            return _end(ranks, failed)
        if all(code == 0 for code in codes):
            return 0
        time.sleep(_POLL_S)


def _end(ranks: list[subprocess.Popen[bytes]], code: int) -> int:
    until = time.monotonic() + _GRACE_S
    while any(process.poll() is None for process in ranks) and time.monotonic() < until:
        time.sleep(_POLL_S)
    return code if code > 0 else 128 - code


def _free_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return int(place.getsockname()[1])
