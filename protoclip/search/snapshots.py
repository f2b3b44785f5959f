"""What searches keep between calls: the vectors of the last snapshot, and the accelerator that is of them.

`Q` queries, `D` embedding.
"""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import dataclass, replace
from pathlib import Path

from .approximate.accelerator import Accelerator
from .approximate.files import load_accelerator, warn_of_accelerator
from .approximate.kept_queries import read_queries
from .approximate.library import has_faiss
from .approximate.search import ApproximateSearch, Unfit
from .approximate.tuned import AcceleratorFile, Record, read_record
from .connections import state_of
from .database import Database
from .nearest import Best, nearest
from .searching import Nearest
from .tables import Facts, read_facts
from .vectors import Array, Keys
from .view import View, check_segments, load_view

_EXACT = "searches compare with every vector until `protoclip index tune` makes it anew"


class Snapshots:
    """Of one index. May be shared between threads."""

    def __init__(self, folder: Path) -> None:
        """Nothing is read yet."""
        self._folder = folder
        self._lock = threading.Lock()
        self._view: View | None = None
        self._accelerator: _Known | None = None
        self._search: ApproximateSearch | None = None

    def view(self, connection: sqlite3.Connection, facts: Facts, database: Database) -> View:
        """The vectors of the connection's snapshot, not checked; kept as long as nothing changes.

        Raises:
            IndexFileError: a vector in the database is damaged.
        """
        with self._lock:
            known = self._view
            if known is not None and known.change == facts["change"]:
                return known
            older = known if known is not None and known.change < facts["change"] else None
            view = load_view(connection, facts, self._folder, database.path, older)
            if known is None or older is not None:
                self._view = view
            return view

    def checked_view(self, connection: sqlite3.Connection, facts: Facts, database: Database) -> View:
        """The same, with all of its segments compared with their digests; errors as `view`."""
        view = self.view(connection, facts, database)
        _Checked(self, connection, view, int(facts["dim"]), database.path).check(0)
        return view

    def nearest(self, connection: sqlite3.Connection, facts: Facts, database: Database, *, exact: bool) -> Nearest:
        """How the nearest vectors of the connection's snapshot are found; errors as `view`."""
        view = self.view(connection, facts, database)
        checked = _Checked(self, connection, view, int(facts["dim"]), database.path)
        record = None if exact else read_record(facts)
        accelerator = None if record is None else self._accelerator_of(record, facts, database)
        if record is None or accelerator is None:
            return checked.nearest
        search = self._search_of(accelerator, record, view)

        def approximately(queries: Array, k: int, allowed: Keys | None, spare: int) -> list[Best]:
            try:
                return search.nearest(queries, k, allowed, checked.check, spare)
            except Unfit:
                with self._lock:
                    self._accelerator = None if record.file is None else self._known(record.file, None)
                warn_of_accelerator(f"{self._folder}: the accelerator isn't of these vectors: {_EXACT}")
                return checked.nearest(queries, k, allowed, spare)

        return approximately

    def kept_queries(self, connection: sqlite3.Connection, facts: Facts, database: Database) -> Array:
        """Queries `[Q, D]` that the last tuning was given; none where they are lost.

        Raises:
            IndexFileError: they are damaged.
        """
        dim, record = int(facts["dim"]), read_record(facts)
        kept = read_queries(connection, str(facts["build"]), dim, database.path)
        if len(kept) or record is None or record.file is None or not record.file.queries or not has_faiss():
            return kept
        # Earlier versions kept them in the accelerator.
        accelerator = load_accelerator(self._folder, record.file, dim)
        return kept if accelerator is None else accelerator.queries

    def found_usable(self, file: AcceleratorFile) -> bool | None:
        """Whether a search could use this accelerator; None: none has read it since it was made."""
        with self._lock:
            return self._accelerator.loaded is not None if self._accelerator and self._is_known(file) else None

    def forget(self) -> None:
        """Keeps nothing any more."""
        with self._lock:
            self._view = self._accelerator = self._search = None

    def _search_of(self, accelerator: Accelerator, record: Record, view: View) -> ApproximateSearch:
        known = self._search
        if known is None or not known.is_of(accelerator, view):
            self._search = known = ApproximateSearch(accelerator, record.tuning, view)
        return known

    def _accelerator_of(self, record: Record, facts: Facts, database: Database) -> Accelerator | None:
        if record.file is None:
            return None
        with self._lock:
            if self._accelerator is not None and self._is_known(record.file):
                return self._accelerator.loaded
            known = self._known(record.file, None)
            if not has_faiss():
                loaded, why = None, "faiss isn't installed"
            else:
                loaded = load_accelerator(self._folder, record.file, int(facts["dim"]))
                why = f"{record.file.name} is missing or damaged"
            if loaded is None and _is_replaced(record, database):
                # By who tunes: the next call reads the new one.
                return None
            self._accelerator = replace(known, loaded=loaded)
        if loaded is None:
            warn_of_accelerator(f"{self._folder}: {why}: {_EXACT}")
        return loaded

    def _known(self, file: AcceleratorFile, loaded: Accelerator | None) -> _Known:
        return _Known(file.digest, state_of(self._folder / file.name), loaded)

    def _is_known(self, file: AcceleratorFile) -> bool:
        known = self._accelerator
        if known is None or known.digest != file.digest:
            return False
        # What was made again may have the same name and digest.
        return known.loaded is not None or known.state == state_of(self._folder / file.name)

    def check(self, view: View, connection: sqlite3.Connection, dim: int, place: Path, after: int) -> None:
        """Compares the segments of a view with keys behind `after` with their digests, one thread at a time."""
        with self._lock:
            check_segments(view, connection, self._folder, dim, place, after)


@dataclass(frozen=True)
class _Known:
    """An accelerator by the digest and state of its file; `loaded` None: it can't be used, which was said then."""

    digest: str
    state: object
    loaded: Accelerator | None


@dataclass(frozen=True)
class _Checked:
    """Exact search of a view whose segments are compared with their digests when they are first read."""

    snapshots: Snapshots
    connection: sqlite3.Connection
    view: View
    dim: int
    place: Path

    def check(self, after: int) -> None:
        self.snapshots.check(self.view, self.connection, self.dim, self.place, after)

    def nearest(self, queries: Array, k: int, allowed: Keys | None, spare: int) -> list[Best]:
        self.check(0)
        return nearest(self.view.parts(allowed), queries, k + spare)


def _is_replaced(record: Record, database: Database) -> bool:
    with database.reading() as connection:
        now = read_record(read_facts(connection))
    return now is None or now.file != record.file
