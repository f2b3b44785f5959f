"""Worker processes that read and crop pictures: forked once, they live as long as their run.

A run's requests are cut into pieces of a few pictures. A worker writes a piece's pixels into a cell of memory that
all processes share, and answers through a pipe of its own; they share no lock, so that one that is killed stops no
other. `B` pictures in a request, `n` in a piece, `H`, `W` their size.
"""

from __future__ import annotations

import gc
import multiprocessing
import signal
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from mmap import mmap
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize

import numpy as np
import torch
from numpy.typing import NDArray

from protoclip.contract.errors import ProtoclipError

Crop = Callable[[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]], list[str | None]]
"""Indices [n], visits [n] and pixels [n, H, W, 3] to fill → why each picture can't be read, or None."""
_LAST_WORDS_S = 5.0
_PIECES_PER_WORKER = 8


@dataclass
class Piece:
    """A few pictures of one request, in the memory cell `cell` until it is freed.

    Attributes:
        reasons: [n], None before a worker has answered.
    """

    indices: NDArray[np.int64]
    visits: NDArray[np.int64]
    cell: int = -1
    reasons: list[str | None] | None = None


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    pieces: deque[Piece] = field(default_factory=deque)


class WorkerPool:
    """Processes that crop pieces in parallel, each its own in the order in which it was given them.

    Args:
        crop: called in the workers, with what this process has in memory when they start.
        num_workers: at least 1.
        capacity: pictures that are worked on or wait to be taken.
        batch_size: B of most requests.
        height, width: of a picture.
    """

    def __init__(
        self, crop: Crop, *, num_workers: int, capacity: int, batch_size: int, height: int, width: int
    ) -> None:
        self.piece_size = max(1, batch_size // (_PIECES_PER_WORKER * num_workers))
        num_cells = max(num_workers, -(-capacity // self.piece_size))
        shape = (num_cells, self.piece_size, height, width, 3)
        # Anonymous memory is shared with forked processes and needs no room in /dev/shm, which containers limit.
        self._cells = np.frombuffer(mmap(-1, int(np.prod(shape))), dtype=np.uint8).reshape(shape)
        self._free = list(range(num_cells))
        self._workers = _start(crop, self._cells, num_workers)
        self.close = Finalize(self, _end, args=(self._workers,), exitpriority=1)

    @property
    def has_room(self) -> bool:
        """Whether a piece can be given to a worker now."""
        return bool(self._free)

    def give(self, piece: Piece) -> None:
        """Gives a piece, of at most `piece_size` pictures, to the worker that has the fewest; there must be room.

        Raises:
            ProtoclipError: the worker has ended.
        """
        piece.cell = self._free.pop()
        worker = min(self._workers, key=lambda worker: len(worker.pieces))
        worker.pieces.append(piece)
        try:
            worker.pipe.send((piece.cell, piece.indices.tolist(), piece.visits.tolist()))
        except OSError:
            raise _ended(worker) from None

    def wait_for(self, piece: Piece) -> NDArray[np.uint8]:
        """The pixels [n, H, W, 3] of a piece that was given, once a worker has made them.

        Raises:
            ProtoclipError: a worker has ended.
        """
        while piece.reasons is None:
            ready = wait([worker.pipe for worker in self._workers])
            for worker in self._workers:
                if worker.pipe in ready:
                    self._receive(worker)
        return self._cells[piece.cell][: len(piece.indices)]

    def free(self, piece: Piece) -> None:
        """Gives the memory of a piece that was waited for to others."""
        self._free.append(piece.cell)

    def _receive(self, worker: _Worker) -> None:
        try:
            answer = worker.pipe.recv()
        except (EOFError, OSError):
            raise _ended(worker) from None
        if isinstance(answer, str):
            raise RuntimeError(f"a worker process failed:\n{answer}")
        worker.pieces.popleft().reasons = answer


def _start(crop: Crop, cells: NDArray[np.uint8], num_workers: int) -> list[_Worker]:
    # Forked, not spawned: decoded pictures and tables are then shared and not copied. The children run
    # Pillow, NumPy and, as torch's own loader does, torch on the CPU with one thread: they need no thread of
    # torch's, CUDA's or gloo's, none of which lives on in them.
    context = multiprocessing.get_context("fork")
    workers: list[_Worker] = []
    for _ in range(num_workers):
        ours, theirs = context.Pipe()
        inherited = [*(worker.pipe for worker in workers), ours]
        process = context.Process(target=_serve, args=(crop, cells, theirs, inherited), daemon=True)
        with warnings.catch_warnings():
            # Python 3.12 warns of every fork beside threads.
            warnings.simplefilter("ignore", DeprecationWarning)
            process.start()
        theirs.close()
        workers.append(_Worker(process, ours))
    return workers


def _serve(crop: Crop, cells: NDArray[np.uint8], pipe: Connection, inherited: Sequence[Connection]) -> None:
    """A worker's life: it ends when the other end of its pipe is closed, also by the death of its owner."""
    # A signal to the whole group, such as Ctrl-C, is the owner's to act on: it still needs its batches.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)
    # Objects that no collection visits keep their memory pages shared.
    gc.freeze()
    for other in inherited:
        other.close()
    try:
        while True:
            cell, indices, visits = pipe.recv()
            try:
                answer: list[str | None] | str = crop(
                    np.array(indices, dtype=np.int64),
                    np.array(visits, dtype=np.int64),
                    cells[cell][: len(indices)],
                )
            except Exception:  # noqa: BLE001  raised again in the owner
                answer = traceback.format_exc()
            pipe.send(answer)
    except (EOFError, OSError):
        return


def _ended(worker: _Worker) -> ProtoclipError:
    worker.process.join(_LAST_WORDS_S)
    code = worker.process.exitcode
    how = f"by signal {-code}" if code is not None and code < 0 else f"with exit code {code}"
    return ProtoclipError(
        f"a worker process that reads pictures has ended {how}, as by signal 9 where memory runs out: "
        "lower train.num_workers or data.cache_mb, and go on from the last checkpoint with --resume"
    )


def _end(workers: Sequence[_Worker]) -> None:
    for worker in workers:
        worker.pipe.close()
    for worker in workers:
        worker.process.join(_LAST_WORDS_S)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
