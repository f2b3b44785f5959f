"""Batches as they are asked for, prepared ahead by worker processes. `B` pairs in a batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from .batches import Batch, PairLoader, Requests
from .workers import Piece, WorkerPool

_BATCHES_AHEAD = 3


@dataclass
class _Pending:
    """A request on its way: the pieces that were given to workers, and how many of its rows they are."""

    requests: Requests
    pieces: deque[Piece] = field(default_factory=deque)
    num_given: int = 0

    @property
    def is_given(self) -> bool:
        return self.num_given == len(self.requests.indices)


class Feed:
    """Loads batches in the order in which they are taken.

    What is expected is prepared ahead, a few pictures at a time, whatever batch, extraction or episode it is for.
    A batch is the same whether it was expected or not, with any number of workers. These start when something is
    expected or taken, and live until the feed is closed.

    Args:
        batch_size: B of most batches on this rank.
    """

    def __init__(self, loader: PairLoader, num_workers: int, batch_size: int) -> None:
        self._loader, self._num_workers, self._batch_size = loader, num_workers, batch_size
        self._pool: WorkerPool | None = None
        self._pending: deque[_Pending] = deque()
        self._expected: Iterator[Requests] = iter(())
        self.num_unexpected = 0
        """How many batches were taken that were not the next ones expected, and therefore not prepared."""

    def expect(self, requests: Iterable[Requests]) -> None:
        """Says what will be taken next; read only as far as there is memory to prepare it."""
        if self._num_workers:
            self._forget()
            self._expected = iter(requests)
            self._give(self._started())

    def take(self, requests: Requests) -> Batch:
        """The batch, without the pairs whose pictures can't be read.

        Raises:
            ProtoclipError: a worker process has ended, for instance because memory ran out.
        """
        pixels = self._empty(len(requests.indices))
        if self._num_workers:
            reasons = self._collect(requests, pixels)
        else:
            reasons = self._loader.crop(requests.indices, requests.visits, pixels)
        batch = self._loader.batch(requests, pixels, reasons)
        return batch.pin_memory() if torch.cuda.is_available() else batch

    def close(self) -> None:
        """Ends the workers."""
        if self._pool is not None:
            self._pool.close()
        self._pool, self._pending, self._expected = None, deque(), iter(())

    def _empty(self, count: int) -> NDArray[np.uint8]:
        shape = (count, *self._loader.picture_shape)
        # Page-locked from the beginning, so that the copy to the GPU needs no other copy before it.
        return torch.empty(shape, dtype=torch.uint8, pin_memory=torch.cuda.is_available()).numpy()

    def _started(self) -> WorkerPool:
        if self._pool is None:
            height, width, _ = self._loader.picture_shape
            self._pool = WorkerPool(
                self._loader.crop,
                num_workers=self._num_workers,
                capacity=_BATCHES_AHEAD * self._batch_size,
                batch_size=self._batch_size,
                height=height,
                width=width,
            )
        return self._pool

    def _collect(self, requests: Requests, pixels: NDArray[np.uint8]) -> list[str | None]:
        pool, done = self._started(), 0
        pending = self._pending_of(requests)
        reasons: list[str | None] = []
        while done < len(pixels):
            self._give(pool)
            piece = pending.pieces.popleft()
            made = pool.wait_for(piece)
            pixels[done : done + len(made)] = made
            done += len(made)
            reasons += piece.reasons or []
            pool.free(piece)
        self._pending.popleft()
        self._give(pool)
        return reasons

    def _pending_of(self, requests: Requests) -> _Pending:
        """The next expected one, if it is that; else all that was expected is dropped."""
        if not self._pending:
            self._next_pending()
        if not self._pending or not self._pending[0].requests.equals(requests):
            self.num_unexpected += 1
            self._forget()
            self._pending.append(_Pending(requests))
        return self._pending[0]

    def _next_pending(self) -> bool:
        requests = next(self._expected, None)
        if requests is not None:
            self._pending.append(_Pending(requests))
        return requests is not None

    def _give(self, pool: WorkerPool) -> None:
        """Gives pieces to the workers, in order, while there is room."""
        while pool.has_room:
            if (not self._pending or self._pending[-1].is_given) and not self._next_pending():
                return
            pending = self._pending[-1]
            rows = np.arange(pending.num_given, len(pending.requests.indices))[: pool.piece_size]
            own = pending.requests.select(rows)
            piece = Piece(own.indices, own.visits)
            pool.give(piece)
            pending.pieces.append(piece)
            pending.num_given += len(rows)

    def _forget(self) -> None:
        self._expected = iter(())
        for pending in self._pending:
            for piece in pending.pieces:
                if self._pool is not None:
                    self._pool.wait_for(piece)
                    self._pool.free(piece)
        self._pending.clear()
