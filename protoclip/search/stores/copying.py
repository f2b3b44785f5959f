"""Copies an index into another one, wherever both are; the same copy again goes on where it stood.

`n` entries, `D` embedding.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from protoclip.contract.errors import ConfigError, IndexFileError
from protoclip.search.entries import Entry
from protoclip.search.index import Index
from protoclip.search.store import Store, traits_of

from .engine import EngineStore
from .left_behind import left_behind
from .opening import open_index, open_or_create

DEFAULT_BATCH = 1000
# Vectors are made unit ones again where they arrive, which may change a last digit.
_ROUNDING = 1e-6
_UNDER_WAY_S, _LOOK_S = 10.0, 0.5


@dataclass(frozen=True)
class CopyProgress:
    """How far a copy is: entries of the source looked at, how many there are, how many of them were written."""

    done: int
    total: int
    written: int


@dataclass(frozen=True)
class Copied:
    """What a copy did.

    Attributes:
        entries: in the target now, as many as in the source.
        written: by this call.
        kept: that were there already, as they are in the source.
        compared: all of them, read from both at the end: ids, metadata and vectors agree.
        left_behind: as the function `left_behind` tells beforehand.
    """

    entries: int
    written: int
    kept: int
    compared: int
    left_behind: tuple[str, ...] = ()


def copy_index(
    source: str | Path | Store,
    target: str | Path | Store,
    *,
    exact: bool = False,
    batch: int = DEFAULT_BATCH,
    progress: Callable[[CopyProgress], None] | None = None,
) -> Copied:
    """Copies every entry of `source` into `target`, which is made where it is not there.

    Each batch is in the target when the next one is read. A copy that was interrupted goes on when it is called
    again: entries that are there as in the source are not written again, others of their ids are replaced, and
    each id is there once. At the end both are counted, and every entry is read from both and compared, to the last
    digits of its vector. Who writes to either of them meanwhile makes that comparison fail.

    From one index of this machine to another goes also what is known beside the entries (`Index.take_over`);
    `left_behind` says what stays behind otherwise.

    Args:
        source, target: addresses as `open_index` takes them, or open indexes, which stay open.
        exact: of a target that is made: without an approximate structure. Otherwise that is built at the end. A
            target that is there stays as it is.
        batch: entries that are read and written at a time.
        progress: called after each batch.

    Raises:
        IndexFileError: the target is of another model, holds entries that the source doesn't, or holds something
            else at the end.
        ConfigError: a `batch` below 1, source and target are the same, or the target's engine can't hold an entry.
        StoreUnavailable: an engine can't be reached.
    """
    if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
        raise ConfigError(f"batch={batch!r} must be a whole number of 1 or more")
    with (
        _Opened(source, lambda: _opened(source)) as origin,
        _Opened(target, lambda: _made(target, origin, exact)) as copy,
    ):
        if _same(origin, copy):
            raise ConfigError(f"{origin.path}: source and target are one index: name another one")
        _check_target(origin, copy, batch)
        behind = left_behind(origin, copy)
        done = _Copy(origin, copy, batch, progress, behind).run()
        if isinstance(copy, Index) and isinstance(origin, Index):
            copy.take_over(origin)
        if isinstance(copy, EngineStore | Index) and not (copy.exact if isinstance(copy, EngineStore) else exact):
            copy.settle()
        return done


class _Opened:
    """An index for a block: opened and closed by it where it was an address."""

    def __init__(self, given: str | Path | Store, make: Callable[[], Store]) -> None:
        self._store = make() if isinstance(given, str | Path) else given
        self._is_ours = isinstance(given, str | Path)

    def __enter__(self) -> Store:
        return self._store

    def __exit__(self, *_: object) -> None:
        if self._is_ours:
            self._store.close()


def _opened(given: str | Path | Store) -> Store:
    assert isinstance(given, str | Path)
    return open_index(given)


def _made(given: str | Path | Store, origin: Store, exact: bool) -> Store:
    assert isinstance(given, str | Path)
    return open_or_create(given, origin, exact=exact)


def _same(one: Store, other: Store) -> bool:
    if isinstance(one.path, Path) and isinstance(other.path, Path):
        return one.path.resolve() == other.path.resolve()
    return one.path == other.path


def _check_target(origin: Store, copy: Store, batch: int) -> None:
    if (copy.fingerprint, copy.dim) != (origin.fingerprint, origin.dim):
        raise IndexFileError(
            f"{copy.path}: holds vectors of {copy.model or 'the model'} {copy.fingerprint}, but {origin.path} of "
            f"{origin.model or 'the model'} {origin.fingerprint}: name another target"
        )
    if copy.count() > origin.count():
        raise IndexFileError(
            f"{copy.path}: holds {copy.count()} entries, more than the {origin.count()} of {origin.path}: name "
            "another target, or remove them first"
        )
    for entries in _batches(copy.iterate(), batch):
        names = [entry.id for entry in entries]
        for name, entry in zip(names, _get_many(origin, names), strict=True):
            if entry is None:
                raise IndexFileError(
                    f"{copy.path}: holds {name!r}, which {origin.path} doesn't: it is no copy that could go on; "
                    "name another target, or remove it first"
                )


class _Copy:
    def __init__(
        self,
        origin: Store,
        copy: Store,
        batch: int,
        progress: Callable[[CopyProgress], None] | None,
        behind: tuple[str, ...],
    ) -> None:
        self._origin, self._copy, self._batch, self._progress = origin, copy, batch, progress
        self._behind = behind
        self._written = self._done = 0

    def run(self) -> Copied:
        total, known = self._origin.count(), self._copy.count()
        for entries in _batches(self._origin.iterate(), self._batch):
            new = [entry for entry, there in self._paired(entries, known > 0) if not _agree(entry, there)]
            if new:
                self._copy.upsert(
                    np.stack([entry.vector for entry in new]),
                    [entry.id for entry in new],
                    [entry.metadata for entry in new],
                )
            self._written += len(new)
            self._done += len(entries)
            if self._progress is not None:
                self._progress(CopyProgress(self._done, max(total, self._done), self._written))
        return self._checked()

    def _paired(self, entries: Sequence[Entry], look: bool) -> Iterator[tuple[Entry, Entry | None]]:
        there = _get_many(self._copy, [entry.id for entry in entries]) if look else [None] * len(entries)
        return zip(entries, there, strict=True)

    def _checked(self) -> Copied:
        wanted, found = self._origin.count(), self._copy.count()
        end = time.monotonic() + _UNDER_WAY_S
        # Without transactions an entry that somebody is replacing, as another copy does, may be there twice.
        while found > wanted and not traits_of(self._copy).transactions and time.monotonic() < end:
            time.sleep(_LOOK_S)
            found = self._copy.count()
        if wanted != found:
            raise IndexFileError(
                f"{self._copy.path}: holds {found} entries after copying, and {self._origin.path} holds {wanted}: "
                "somebody writes to one of them, or the target held others; end that, and copy again"
            )
        compared = 0
        for entries in _batches(self._origin.iterate(), self._batch):
            for entry, there in self._paired(entries, True):
                if not _agree(entry, there):
                    raise IndexFileError(
                        f"{self._copy.path}: entry {entry.id!r} is not as in {self._origin.path}: copy again, "
                        "while nobody writes"
                    )
            compared += len(entries)
        return Copied(found, self._written, self._done - self._written, compared, self._behind)


def _batches(entries: Iterator[Entry], size: int) -> Iterator[list[Entry]]:
    while part := list(islice(entries, size)):
        yield part


def _get_many(store: Store, ids: Sequence[str]) -> list[Entry | None]:
    return store.get_many(ids) if isinstance(store, EngineStore) else [store.get(name) for name in ids]


def _agree(entry: Entry, there: Entry | None) -> bool:
    if there is None or _written(entry.metadata) != _written(there.metadata):
        return False
    return bool(np.abs(entry.vector - there.vector).max(initial=0) <= _ROUNDING)


def _written(metadata: Mapping[str, Any]) -> str:
    """With types, which Python's `==` passes over: 1 is no 1.0, and no true."""
    return json.dumps(metadata, sort_keys=True)
