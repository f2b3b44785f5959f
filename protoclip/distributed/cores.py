"""Cores of this machine, or of the container that this process runs in."""

from __future__ import annotations

import os
from pathlib import Path

from . import collectives

_LIMIT = Path("/sys/fs/cgroup/cpu.max")


def usable_cores() -> int:
    """Cores that this process may use: its affinity, within the container's limit rounded up; at least 1."""
    known = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    limit = _container_cores()
    return max(1, len(known) if limit is None else min(len(known), limit))


def cores_per_rank() -> int:
    """Cores that this process may use, shared out among the ranks on this host; at least 1.

    The launcher says how many ranks these are; one that doesn't is taken to have started all of them here.
    """
    on_this_host = int(os.environ.get("LOCAL_WORLD_SIZE", collectives.world_size()))
    return max(1, usable_cores() // max(1, on_this_host))


def _container_cores() -> int | None:
    try:
        quota, period = _LIMIT.read_text().split()
    except (OSError, ValueError):
        return None
    return -(-int(quota) // int(period)) if quota.isdigit() else None
