"""How fast image encoders are beside one another, and whether anything else ran meanwhile."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .runtime import Encode

MEASURED_BATCH = 8
_ROUNDS = 7
_ROUND_S = 0.2
# A share of all cores that others may take before the speeds are said to be of a busy machine.
_BUSY = 0.15
_STAT = Path("/proc/stat")


@dataclass(frozen=True)
class Speeds:
    """Pictures per second by name, and the cores that other programs took meanwhile; None: not known here."""

    pictures_per_s: dict[str, float]
    others_cores: float | None

    @property
    def described(self) -> str:
        """How it was measured, and what a busy machine means for it."""
        how = f"pictures/s: image encoder, batch {MEASURED_BATCH}, median of {_ROUNDS} rounds in turns"
        cores = os.cpu_count() or 1
        if self.others_cores is None or self.others_cores <= _BUSY * cores:
            return how
        return (
            f"{how}, while other programs took {self.others_cores:.1f} of {cores} cores: "
            "`protoclip benchmark ARTIFACT --save` measures again when the machine is quiet"
        )


def measure_speeds(encoders: Mapping[str, Encode], pixels: NDArray[np.uint8]) -> Speeds:
    """Throughput of image encoders at batch 8 or less: the median of seven rounds of 0.2 s or more, in turns.

    In turns, so that other load on the machine slows all of them alike.
    """
    batch = pixels[:MEASURED_BATCH]
    for encode in encoders.values():
        encode(batch)
    rates: dict[str, list[float]] = {name: [] for name in encoders}
    started, before = time.perf_counter(), _others_cpu_s()
    for _ in range(_ROUNDS):
        for name, encode in encoders.items():
            rates[name].append(_rate(encode, batch))
    after, elapsed = _others_cpu_s(), time.perf_counter() - started
    cores = None if before is None or after is None or not elapsed else max(after - before, 0.0) / elapsed
    return Speeds({name: median(found) for name, found in rates.items()}, cores)


def _rate(encode: Encode, batch: NDArray[np.uint8]) -> float:
    done, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < _ROUND_S or not done:
        encode(batch)
        done += len(batch)
    return done / elapsed


def _others_cpu_s() -> float | None:
    """Seconds of CPU time that the machine spent on all but this process; None where it does not say."""
    try:
        words = _STAT.read_text().split("\n", 1)[0].split()
        ticks: Any = os.sysconf("SC_CLK_TCK")
        user, nice, system, _, _, irq, softirq = map(int, words[1:8])
    except (OSError, ValueError, AttributeError):
        return None
    return (user + nice + system + irq + softirq) / ticks - time.process_time()
