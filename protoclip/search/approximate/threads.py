"""Work of NumPy in as many threads as there are cores: it holds Python's lock for little of the time."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
_MOST = 8


def in_threads(work: Callable[[int], T], items: Sequence[int]) -> list[T]:
    """`work` of each item, in their order; of a single one in this thread. Raises what `work` raises."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = min(len(items), cores, _MOST)
    if threads <= 1:
        return [work(item) for item in items]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, items))
