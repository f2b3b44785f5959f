"""The processes of a running server's Python models."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from serving.triton.launcher import LaunchedServer


def workers(server: LaunchedServer, role: str) -> list[int]:
    """Process ids of the instances of a model."""
    return [pid for pid in _children(server.pid) if role in _command(pid)]


def cpu_s(pids: Sequence[int]) -> float:
    """Seconds that the processes have computed, together."""
    stats = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(stat[11]) + int(stat[12]) for stat in stats) / os.sysconf("SC_CLK_TCK")


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
