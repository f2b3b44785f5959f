"""What a run leaves out: before it trains, and pairs whose pictures are found broken when their turn comes."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping

from protoclip.contract.picture_folders import Skipped
from protoclip.distributed import collectives
from protoclip.sources.left_out import check_left_out

from .batches import Batch

logger = logging.getLogger(__name__)
_NUM_NAMED = 50


class LeftOutPairs:
    """What is left out. A broken picture is met at each visit of its pair, and named at the first.

    Args:
        before: rows, files and pictures that were left out before training.
        num_pairs: N, the pairs to train on.
        limit: `data.max_left_out`.
        where: names the data in a message.
    """

    def __init__(self, before: tuple[Skipped, ...], num_pairs: int, limit: float, where: str) -> None:
        self.before, self._num_pairs, self._limit, self._where = before, num_pairs, limit, where
        self._found: dict[int, Skipped] = {}
        self._own: dict[int, Skipped] = {}
        self._num_named = 0

    @property
    def found(self) -> dict[int, Skipped]:
        """The pairs whose pictures were found broken on any rank until `share` was called, by their index."""
        return dict(sorted(self._found.items()))

    @property
    def listed(self) -> tuple[Skipped, ...]:
        """Everything: what was left out before, and what was found, each pair once, in the order of the data."""
        return (*self.before, *self.found.values())

    def watched(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The same batches; what they leave out is named in warnings, up to 50 pairs."""
        for batch in batches:
            for pair in batch.left_out:
                self._note(pair.index, pair.picture)
            yield batch

    def share(self) -> bool:
        """Makes what one rank found known to all; whether there was anything. All ranks call it."""
        if not any(collectives.largest(len(self._own))):
            return False
        for text in collectives.gather_texts(as_json(self._own)):
            self._found = from_json(text) | self._found
        self._own.clear()
        return True

    def restore(self, found: Mapping[int, Skipped]) -> None:
        """Takes over what `found` was when the run's checkpoint was saved, the same on all ranks."""
        self._found = dict(found)

    def check(self) -> None:
        """Stops all ranks where too much is left out, of what `share` made known.

        Raises:
            DataError: more than `data.max_left_out`.
        """
        if self._found:
            check_left_out(self.listed, self._num_pairs - len(self._found), self._limit, self._where)

    def _note(self, index: int, picture: Skipped) -> None:
        if index in self._found or index in self._own:
            return
        self._own[index] = picture
        self._num_named += 1
        if self._num_named <= _NUM_NAMED:
            logger.warning("left out: %s: %s", picture.name, picture.reason)
        elif self._num_named == _NUM_NAMED + 1:
            logger.warning("left out: more pictures, which are counted at the end of the run")


def as_json(found: Mapping[int, Skipped]) -> str:
    """Pairs by their index, for `from_json`."""
    return json.dumps([(index, picture.name, picture.reason) for index, picture in found.items()])


def from_json(text: str) -> dict[int, Skipped]:
    """What `as_json` was given; ValueError or TypeError where the text is not of it."""
    return {int(index): Skipped(str(name), str(reason)) for index, name, reason in json.loads(text)}
