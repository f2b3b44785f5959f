"""What a run leaves out: before it trains, and pairs whose pictures are found broken when their turn comes."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator

from protoclip.contract.picture_folders import Skipped
from protoclip.distributed import collectives
from protoclip.sources.left_out import check_left_out

from .batches import Batch

logger = logging.getLogger(__name__)
_NUM_NAMED = 50


class LeftOutPairs:
    """What is left out on this rank. A broken picture is met at each visit of its pair, and named at the first.

    Args:
        before: rows, files and pictures that were left out before training.
        num_pairs: N, the pairs to train on.
        limit: `data.max_left_out`.
        where: names the data in a message.
    """

    def __init__(self, before: tuple[Skipped, ...], num_pairs: int, limit: float, where: str) -> None:
        self.before, self._num_pairs, self._limit, self._where = before, num_pairs, limit, where
        self._found: dict[int, Skipped] = {}

    def watched(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The same batches; what they leave out is named in warnings, up to 50 pairs."""
        for batch in batches:
            for pair in batch.left_out:
                self._note(pair.index, pair.picture)
            yield batch

    def check(self) -> None:
        """Stops all ranks where one has left out too much. All ranks call it.

        Raises:
            DataError: more than `data.max_left_out`.
        """
        (most,) = collectives.largest(len(self._found))
        if not most:
            return
        found = tuple(self._found.values())
        unknown = (Skipped("another rank", "its pictures can't be read"),) * (most - len(found))
        everything = (*self.before, *found, *unknown)
        check_left_out(everything, self._num_pairs - most, self._limit, self._where)

    def of_all_ranks(self) -> tuple[Skipped, ...]:
        """Everything, each pair once, in the order of the data. All ranks call it."""
        own = json.dumps([(index, picture.name, picture.reason) for index, picture in self._found.items()])
        found = {
            index: Skipped(name, reason)
            for text in collectives.gather_texts(own)
            for index, name, reason in json.loads(text)
        }
        return (*self.before, *(found[index] for index in sorted(found)))

    def _note(self, index: int, picture: Skipped) -> None:
        if index in self._found:
            return
        self._found[index] = picture
        if len(self._found) <= _NUM_NAMED:
            logger.warning("left out: %s: %s", picture.name, picture.reason)
        elif len(self._found) == _NUM_NAMED + 1:
            logger.warning("left out: more pictures, which are counted at the end of the run")
