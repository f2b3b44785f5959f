"""Memory, shared memory and disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from protoclip.distributed.host_memory import GIB, available_memory_bytes

from .checks import Check, Group, State

_LEAST_MEMORY_BYTES = 2 * GIB
_LEAST_SHARED_BYTES = 256 * 2**20
_LEAST_DISK_BYTES = 2 * GIB
_SHARED = Path("/dev/shm")


def machine_checks() -> Mapping[str, Callable[[], Sequence[Check]]]:
    """The checks of this module, by name."""
    return {
        "memory": lambda: [check_memory(available_memory_bytes())],
        "shared memory": lambda: [check_shared_memory(_SHARED)],
        "disk": lambda: [check_disk(Path.cwd())],
    }


def check_memory(available: int | None) -> Check:
    """Whether a small training run fits. `available` in bytes, None where the system doesn't report it."""
    if available is None:
        return Check("memory", State.OK, "this system doesn't tell", group=Group.MACHINE)
    found = f"{available / GIB:.1f} GiB available, {os.cpu_count()} cores"
    if available < _LEAST_MEMORY_BYTES:
        advice = "close other programs, or lower train.batch_size and data.cache_mb"
        return Check("memory", State.PROBLEM, found, advice, Group.MACHINE)
    return Check("memory", State.OK, found, group=Group.MACHINE)


def check_shared_memory(folder: Path) -> Check:
    """Triton's Python models pass pictures through it, NCCL gradients; containers have 64 MiB by default."""
    if not folder.is_dir():
        return Check("shared memory", State.OK, f"no {folder} on this system", group=Group.MACHINE)
    free = shutil.disk_usage(folder).free
    found = f"{free / 2**20:,.0f} MiB free in {folder}"
    if free < _LEAST_SHARED_BYTES:
        advice = "start the container with --shm-size=1g"
        return Check("shared memory", State.PROBLEM, found, advice, Group.MACHINE)
    return Check("shared memory", State.OK, found, group=Group.MACHINE)


def check_disk(folder: Path) -> Check:
    """Whether runs and artifacts fit on the disk of the working directory."""
    free = shutil.disk_usage(folder).free
    found = f"{free / GIB:.1f} GiB free in {folder}"
    if free < _LEAST_DISK_BYTES:
        return Check("disk", State.PROBLEM, found, "free some, or write elsewhere with --out", Group.MACHINE)
    return Check("disk", State.OK, found, group=Group.MACHINE)
