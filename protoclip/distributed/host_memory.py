"""Memory of this machine, or of the container that this process runs in."""

from __future__ import annotations

from pathlib import Path

GIB = 2**30
_MEMORY_FACTS = Path("/proc/meminfo")
_LIMIT, _USED = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")


def available_memory_bytes() -> int | None:
    """Available without swapping and within the container's limit; None where the system doesn't report it."""
    amounts = [amount for amount in (_host_bytes(), _container_bytes()) if amount is not None]
    return min(amounts, default=None)


def _host_bytes() -> int | None:
    if not _MEMORY_FACTS.is_file():
        return None
    for line in _MEMORY_FACTS.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _container_bytes() -> int | None:
    try:
        limit, used = _LIMIT.read_text().strip(), _USED.read_text().strip()
    except OSError:
        return None
    return int(limit) - int(used) if limit.isdigit() else None
