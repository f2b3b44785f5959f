"""The processes of a running server's Python models, and stopping them for a moment."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from serving.triton.launcher import LaunchedServer


def workers(server: LaunchedServer, role: str) -> list[int]:
    """Process ids of the instances of a model."""
    return [pid for pid in _children(server.pid) if role in _command(pid)]


@contextmanager
def stopped(pids: Sequence[int]) -> Iterator[None]:
    """Processes that are stopped until the block ends; for less than a second: Triton 2.51 aborts after more."""
    # They answer before they are through with a batch, and stopped in between would not take the next request.
    time.sleep(0.5)
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def _children(pid: int) -> list[int]:
    processes = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    return [other for other in processes if _parent(other) == pid]


def _parent(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
