"""Pairs left out of their batches because their pictures can't be read: counted, and each named once."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator

from .batches import Batch

logger = logging.getLogger(__name__)
_NUM_NAMED = 50


class LeftOutPairs:
    """What the batches of a run leave out on this rank.

    A broken picture is met at each visit of its pair: it is named at the first, and counted once.
    """

    def __init__(self) -> None:
        self._indices: set[int] = set()

    def __len__(self) -> int:
        """How many pairs have been left out at least once."""
        return len(self._indices)

    def watched(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The same batches; what they leave out is named in warnings, up to 50 pairs."""
        for batch in batches:
            for pair in batch.left_out:
                self._note(pair.index, pair.reason)
            yield batch

    def warn_of_count(self) -> None:
        """One warning with the number of pairs, where there are any."""
        if self._indices:
            logger.warning("%d pairs were left out of their batches: their pictures can't be read", len(self))

    def _note(self, index: int, reason: str) -> None:
        if index in self._indices:
            return
        self._indices.add(index)
        if len(self) <= _NUM_NAMED:
            logger.warning("left out: %s", reason)
        elif len(self) == _NUM_NAMED + 1:
            logger.warning("left out: more pictures, which are counted at the end of the run")
