"""This process's memory: resident on the CPU, allocated on the GPU."""

from __future__ import annotations

from pathlib import Path

from .candidates import Device

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def memory_now(device: Device) -> int | None:
    """Bytes in use now; None where the system doesn't report it."""
    return _gpu_bytes() if device == "cuda" else _status_bytes("VmRSS")


def reset_peak(device: Device) -> None:
    """Resets the peak, where the system allows it."""
    if device == "cpu" and _CLEAR.exists():
        # Writing 5 resets the peak to the current resident size: proc(5).
        try:
            _CLEAR.write_text("5")
        except OSError:
            return


def memory_peak(device: Device) -> int | None:
    """Peak bytes in use since `reset_peak`; on a GPU those in use now, as runtimes keep what they allocated."""
    return _gpu_bytes() if device == "cuda" else _status_bytes("VmHWM")


def _status_bytes(field: str) -> int | None:
    if not _STATUS.exists():
        return None
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return None


def _gpu_bytes() -> int:
    import torch

    # Of the whole GPU: runtimes other than torch don't report their own use.
    free, total = torch.cuda.mem_get_info()
    return total - free
