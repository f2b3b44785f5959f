"""The time that steps wait for their batches."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from protoclip.distributed import collectives

T = TypeVar("T")
_PER_S = 1_000_000


class DataWait:
    """Measures how long a step waits for its batch on this rank, loading included where no worker does it."""

    def __init__(self) -> None:
        self._waited_s, self._num_steps = 0.0, 0

    def measured(self, batches: Iterable[T]) -> Iterator[T]:
        """The same batches, one a step."""
        iterator = iter(batches)
        while True:
            started = time.monotonic()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            self._waited_s += time.monotonic() - started
            self._num_steps += 1
            yield batch

    def mean_s(self) -> float:
        """Seconds a step since this was last asked, on the rank that waited longest. All ranks call it."""
        own = self._waited_s / max(1, self._num_steps)
        self._waited_s, self._num_steps = 0.0, 0
        return collectives.largest(round(own * _PER_S))[0] / _PER_S
