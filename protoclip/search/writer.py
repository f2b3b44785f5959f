"""Writing to an index: entries, whole calls at a time. `n` new entries, `D` embedding."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike

from protoclip.client.results import Embeddings
from protoclip.contract.errors import ProtoclipError

from . import tables, upkeep
from .approximate.files import AcceleratorWarning, is_in_place, is_whole
from .approximate.library import has_faiss
from .approximate.tuned import AcceleratorFile, is_due, read_record
from .database import TemporaryDatabase
from .entries import id_bytes, id_list
from .opening import convert
from .places import is_old
from .reader import IndexReader
from .view import SegmentWarning

if TYPE_CHECKING:
    import sqlite3


class IndexWriter(IndexReader):
    """What an `Index` takes in and drops.

    Attributes: as of `Index`.
    """

    def add(
        self,
        vectors: ArrayLike | Embeddings,
        ids: Sequence[str],
        metadata: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        """Adds `vectors` `[n, D]` (normalised here), each with an id and JSON metadata: all of them or none.

        Raises:
            ConfigError: another shape, NaN, zeros, other numbers of ids or metadata, an id twice or already in
                the index, or metadata that JSON can't hold.
            IndexFileError: vectors that a client made with another model; IndexBusyError: another process has been
                writing for 5 seconds.
            ProtoclipError: the disk is full, or the folder can't be written.
        """
        rows, labels = self._checked(vectors, ids, metadata)
        with self._writing() as connection:
            tables.insert(connection, labels, rows)

    def upsert(
        self,
        vectors: ArrayLike | Embeddings,
        ids: Sequence[str],
        metadata: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        """As `add`, in place of the entries that have these ids."""
        rows, labels = self._checked(vectors, ids, metadata)
        with self._writing() as connection:
            tables.delete(connection, [label.id for label in labels])
            tables.insert(connection, labels, rows)

    def remove(self, ids: str | Iterable[str]) -> int:
        """Removes the entries with these ids, and says how many there were; errors as `add`."""
        names = id_list(ids)
        with self._writing() as connection:
            return tables.delete(connection, dict.fromkeys(id_bytes(name) for name in names))

    def convert(self) -> bool:
        """Converts an index of the first format now; False where it has this one. Errors as `add`."""
        was_old = is_old(self.path)
        with self._holding_the_lock():
            return was_old

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._holding_the_lock():
            with self._database.writing() as connection:
                before = int(self._facts(connection)["count"])
                yield connection
            self._make_segments()
        with self._reading() as (_, facts):
            pass
        self._warn_where_due(facts, before)
        record = read_record(facts)
        self._mending.look(None if record is None else record.file, self._has_lost)

    def _warn_where_due(self, facts: tables.Facts, before: int) -> None:
        """Once, by the call that made it due."""
        if is_due(facts) and not is_due({**facts, "count": before}):
            message = "searches compare with every entry that isn't tuned for: run `protoclip index tune`"
            warnings.warn(
                f"{self.path}: holds {facts['count']} entries: {message}", AcceleratorWarning, stacklevel=5
            )

    def _has_lost(self, file: AcceleratorFile, closely: bool) -> bool:
        """Whether its accelerator is missing or damaged, and can be made anew."""
        found = self._snapshots.found_usable(file) if is_in_place(self.path, file) else False
        if found is None:
            found = not closely or is_whole(self.path, file)
        if found or not has_faiss():
            return False
        with self._reading() as (_, facts):
            now = read_record(facts)
        # Or else who tunes it has replaced it.
        return now is not None and now.file == file

    def _make_segments(self) -> None:
        try:
            upkeep.make_segments(self.path, self._database, self.dim)
        except ProtoclipError as error:
            # What was asked for is on the disk. The next call that writes tries again.
            message = "searches read the last entries from the database until there is room"
            warnings.warn(f"{error}: {message}", SegmentWarning, stacklevel=5)

    @contextmanager
    def _holding_the_lock(self) -> Iterator[None]:
        with self._writer_lock.held() as outermost:
            if outermost:
                if isinstance(self._database, TemporaryDatabase):
                    self._database = convert(self.path, self._database)
                with self._reading():
                    # Not where it has another model meanwhile, of other dimensions.
                    pass
                upkeep.tidy(self.path, self._database, self.dim)
            yield
