"""Work of NumPy and faiss in as many threads as there are cores: it holds Python's lock for little of the time."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from functools import lru_cache
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
_MOST = 8


def num_threads() -> int:
    """How many work at once."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _MOST)


def in_threads(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """`work` of each item, in their order; of a single one in this thread. Raises what `work` raises."""
    threads = min(len(items), num_threads())
    if threads <= 1:
        return [work(item) for item in items]
    places = iter(range(len(items)))
    done: dict[int, R] = {}

    def run() -> None:
        # Each takes the next place: that is one step for Python.
        for place in places:
            done[place] = work(items[place])

    others: list[Future[None]] = []
    # Where Python ends, or the system gives no more, those that have begun are all there are.
    with suppress(RuntimeError):
        for _ in range(threads - 1):
            others.append(_pool(os.getpid()).submit(run))
    try:
        run()
    finally:
        wait(others)
    for other in others:
        other.result()
    return [done[place] for place in range(len(items))]


@lru_cache(maxsize=1)
def _pool(pid: int) -> ThreadPoolExecutor:
    """Kept, as threads take longer to begin than a search; a forked process has none of its parent's."""
    return ThreadPoolExecutor(_MOST, thread_name_prefix="protoclip-search")
