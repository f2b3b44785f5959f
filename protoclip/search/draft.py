"""A build that isn't finished: its database, what it took so far, and how it takes the index's place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from protoclip.contract.errors import IndexFileError
from protoclip.contract.picture_folders import Skipped

from . import tables
from .database import Database, create_database
from .entries import Label, id_bytes
from .opening import first_facts, take_place
from .places import (
    BUILDING_FILE,
    DATABASE_FILE,
    leave_nothing,
    remove_database,
)
from .schema import DRAFT_SCHEMA
from .source_record import Record, remember_sources
from .vectors import Array

_MANY = 500


class Draft:
    """The entries of a build by their ids. The caller holds the writer's lock of its folder."""

    def __init__(
        self,
        folder: Path,
        model: str,
        fingerprint: str,
        dim: int,
        artifact: str | None,
    ) -> None:
        """Goes on with the draft that an earlier build of the same model left, or begins one.

        Raises:
            ProtoclipError: the folder can't be written.
        """
        self._folder = folder
        self._facts = first_facts(model, fingerprint, dim, artifact)
        self._path = folder / BUILDING_FILE
        self._changed: list[Label] = []
        self._database = self._begun() or self._new()

    def __len__(self) -> int:
        with self._database.reading() as connection:
            return int(tables.read_facts(connection)["count"])

    def stored(self, name: bytes) -> tuple[str, bytes | None] | None:
        """Metadata of an entry, and the digest of the item that its vector is of; None if none has this id."""
        query = (
            "SELECT metadata, digest FROM entries LEFT JOIN contents ON contents.key = entries.key WHERE id = ?"
        )
        with self._database.reading() as connection:
            row = connection.execute(query, (name,)).fetchone()
        return None if row is None else (str(row[0]), row[1])

    def replace(
        self, ids: Sequence[bytes], labels: Sequence[Label], contents: Sequence[bytes | None], vectors: Array
    ) -> None:
        """Stores entries with `vectors` `[n, D]` of unit norm in place of those of `ids`; errors as `writing`.

        `ids` are those of `labels`, and of items that were found to be bad.
        """
        with self._database.writing() as connection:
            tables.delete(connection, ids)
            tables.insert(connection, labels, vectors)
            rows = [(content, label.id) for content, label in zip(contents, labels, strict=True) if content]
            connection.executemany("INSERT INTO contents SELECT key, ? FROM entries WHERE id = ?", rows)

    def change(self, label: Label) -> None:
        """Gives an entry other metadata."""
        self._changed.append(label)
        if len(self._changed) >= _MANY:
            self._write_changed()

    def keep_only(self, names: set[bytes]) -> None:
        """Drops the entries of all other ids."""
        self._write_changed()
        with self._database.writing() as connection:
            gone = [key for key, name in connection.execute("SELECT key, id FROM entries") if name not in names]
            tables.delete_keys(connection, gone)
            connection.execute("DELETE FROM removed")

    def finish(self, left_out: Iterable[Skipped], record: Record | None) -> None:
        """Puts the draft in the index's place, in one step that others see as a whole; `record`: of its source.

        Raises:
            ProtoclipError: the disk is full, or the folder can't be written.
        """
        with self._database.writing() as connection:
            rows = [(number, id_bytes(one.name), id_bytes(one.reason)) for number, one in enumerate(left_out)]
            connection.execute("DELETE FROM left_out")
            connection.executemany("INSERT INTO left_out VALUES (?, ?, ?)", rows)
            (last,) = connection.execute("SELECT coalesce(max(key), 0) FROM entries").fetchone()
            remember_sources(connection, [] if record is None else [record], last)
            facts = tables.read_facts(connection)
            if not (self._folder / DATABASE_FILE).exists():
                # Then it becomes the index itself; else it is copied, and again where that fails.
                connection.execute("DROP TABLE contents")
        self._database.settle()
        take_place(self._path, facts)

    def close(self) -> None:
        """Closes the database; what was stored stays for the next build."""
        self._database.close()

    def discard(self) -> None:
        """Removes it, and the folder where nothing else is in it."""
        self.close()
        remove_database(self._path)
        leave_nothing(self._folder)

    def _begun(self) -> Database | None:
        if not self._path.exists():
            return None
        database = Database(self._path)
        try:
            with database.writing() as connection:
                facts = tables.read_facts(connection)
                same = all(facts.get(name) == self._facts[name] for name in ("fingerprint", "dim"))
                if same and facts["build"] != _build_of(self._folder / DATABASE_FILE):
                    for name in ("model", "artifact"):
                        tables.set_fact(connection, name, self._facts[name])
                    connection.execute(DRAFT_SCHEMA)
                    return database
        except IndexFileError:
            # A damaged draft is worth nothing.
            pass
        except BaseException:
            database.close()
            raise
        database.close()
        return None

    def _new(self) -> Database:
        remove_database(self._path)
        database = Database(self._path)
        try:
            create_database(self._path, self._facts)
            with database.writing() as connection:
                connection.execute(DRAFT_SCHEMA)
        except BaseException:
            database.close()
            remove_database(self._path)
            leave_nothing(self._folder)
            raise
        return database

    def _write_changed(self) -> None:
        if self._changed:
            with self._database.writing() as connection:
                for label in self._changed:
                    connection.execute(
                        "UPDATE entries SET metadata = ?, checksum = ? WHERE id = ?",
                        (label.metadata, label.checksum, label.id),
                    )
            self._changed = []


def num_kept(folder: Path) -> int:
    """How many items an unfinished build has embedded; 0 where there is none."""
    path = folder / BUILDING_FILE
    if not path.exists():
        return 0
    database = Database(path)
    try:
        with database.reading() as connection:
            return int(tables.read_facts(connection)["count"])
    finally:
        database.close()


def _build_of(path: Path) -> object:
    if not path.exists():
        return None
    database = Database(path)
    try:
        with database.reading() as connection:
            return tables.read_facts(connection)["build"]
    finally:
        database.close()
