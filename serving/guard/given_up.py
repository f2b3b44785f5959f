"""Calls whose clients have gone, in a file that models look into before they work on one.

Triton itself must not learn of it, or may end (decision 0030). A call has a number in a header, which Triton
hands on to Python models; the file is a table of numbers, each at the place that its remainder by `SLOTS` gives.
"""

from __future__ import annotations

import itertools
import mmap
import time
from pathlib import Path

CALL_HEADER = b"x-protoclip-call"
SLOTS = 1 << 16
NUMBER_BYTES = 8


def make_table(path: Path) -> None:
    """Writes an empty file for `GivenUp`."""
    path.write_bytes(bytes(SLOTS * NUMBER_BYTES))


class GivenUp:
    """Numbers calls, and notes those that are given up. Without a file it does neither."""

    def __init__(self, path: str) -> None:
        self._table: mmap.mmap | None = None
        if path:
            with open(path, "r+b") as file:
                self._table = mmap.mmap(file.fileno(), SLOTS * NUMBER_BYTES)
        # A guard that is started again goes on with other numbers than those in the file.
        self._numbers = itertools.count(time.time_ns())

    def next_call(self) -> int:
        """The number of a call that begins; 0 for none."""
        return next(self._numbers) if self._table is not None else 0

    def add(self, number: int) -> None:
        """Nobody waits for the answer of this call any more."""
        if self._table is not None and number:
            place = number % SLOTS * NUMBER_BYTES
            self._table[place : place + NUMBER_BYTES] = number.to_bytes(NUMBER_BYTES, "little")
