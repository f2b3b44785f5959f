"""The entries of an index with the vectors of another model, under the keys that they have in the index.

The keys say what is done, in whatever order it was; and entries that were replaced meanwhile have other ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from protoclip.contract.errors import IndexFileError
from protoclip.contract.picture_folders import Skipped

from . import tables
from .adapter import AdapterReport
from .database import Database, create_database
from .entries import Label, id_bytes
from .opening import Facts, take_place
from .places import MIGRATING_FILE, remove_database
from .schema import MAPPED_SCHEMA
from .source_record import Record, remember_sources
from .vectors import Array, Keys, to_rows


class MigrationDraft:
    """A migration that isn't finished. The caller holds the migration's lock of its folder."""

    def __init__(self, folder: Path, facts: Facts, of_build: str) -> None:
        """Goes on with what an earlier one to the same model left of the index of `of_build`, or begins one.

        Raises:
            ProtoclipError: the folder can't be written.
        """
        self._path = folder / MIGRATING_FILE
        self._facts = {**facts, "of_build": of_build}
        self._database = self._begun() or self._new()
        with self._database.writing() as connection:
            connection.execute(MAPPED_SCHEMA)
        self.drop_mapped()

    def keys(self) -> Keys:
        """Those of the entries that have their new vector, in order."""
        with self._database.reading() as connection:
            return tables.all_keys(connection)

    def put(self, keys: Sequence[int], labels: Sequence[Label], vectors: Array, *, mapped: bool = False) -> None:
        """Stores entries with their new `vectors` `[n, D]` of unit norm; errors as of `Database.writing`."""
        with self._database.writing() as connection:
            # An id that was given to another entry since.
            if tables.delete(connection, [label.id for label in labels]):
                connection.execute("DELETE FROM removed")
            rows = [
                (key, label.id, label.metadata, label.checksum) for key, label in zip(keys, labels, strict=True)
            ]
            connection.executemany("INSERT INTO entries VALUES (?, ?, ?, ?)", rows)
            connection.executemany("INSERT INTO vectors VALUES (?, ?, ?)", to_rows(keys, vectors))
            if mapped:
                connection.executemany("INSERT INTO mapped VALUES (?)", [(key,) for key in keys])
            tables.count_up(connection, "count", len(rows))

    def vectors(self, keys: Keys) -> Array:
        """The new vectors `[n, D]` of entries that have one."""
        with self._database.reading() as connection:
            wanted = [int(key) for key in keys]
            return tables.vectors_of(connection, wanted, int(self._facts["dim"]), self._path)

    def drop_mapped(self) -> None:
        """Drops the entries that an earlier migration mapped: this one may embed them, or map them better."""
        with self._database.writing() as connection:
            tables.delete_keys(connection, [int(key) for key in tables.mapped_keys(connection)])
            connection.execute("DELETE FROM mapped")
            connection.execute("DELETE FROM removed")

    def mapped(self) -> Keys:
        """Keys of the entries that were mapped, in order."""
        with self._database.reading() as connection:
            return tables.mapped_keys(connection)

    def keep_only(self, keys: Keys) -> None:
        """Drops the entries of all other keys."""
        gone = np.setdiff1d(self.keys(), keys, assume_unique=True)
        if len(gone):
            with self._database.writing() as connection:
                tables.delete_keys(connection, [int(key) for key in gone])
                connection.execute("DELETE FROM removed")

    def finish(
        self,
        left_out: Iterable[Skipped],
        records: list[Record],
        last_key: int | None,
        report: AdapterReport | None,
    ) -> None:
        """Puts the draft in the index's place, in one step that others see as a whole.

        Args:
            records: of what the entries up to `last_key` (None: all) can be embedded again.
            report: what is to be said of the vectors that were mapped, if some were.

        Raises:
            ProtoclipError: the disk is full, or the folder can't be written.
        """
        with self._database.writing() as connection:
            rows = [(number, id_bytes(one.name), id_bytes(one.reason)) for number, one in enumerate(left_out)]
            connection.execute("DELETE FROM left_out")
            connection.executemany("INSERT INTO left_out VALUES (?, ?, ?)", rows)
            remember_sources(connection, records, last_key)
            tables.set_fact(connection, "adapter", None if report is None else report.to_json())
            facts = tables.read_facts(connection)
        self._database.settle()
        take_place(self._path, facts)

    def close(self) -> None:
        """Closes the database; what was stored stays for the next one."""
        self._database.close()

    def _begun(self) -> Database | None:
        if not self._path.exists():
            return None
        database = Database(self._path)
        try:
            with database.writing() as connection:
                facts = tables.read_facts(connection)
                if all(facts.get(name) == self._facts[name] for name in ("fingerprint", "dim", "of_build")):
                    tables.set_fact(connection, "model", self._facts["model"])
                    tables.set_fact(connection, "artifact", self._facts["artifact"])
                    return database
        except IndexFileError:
            # A damaged draft is worth nothing.
            pass
        database.close()
        return None

    def _new(self) -> Database:
        remove_database(self._path)
        try:
            create_database(self._path, self._facts)
        except BaseException:
            remove_database(self._path)
            raise
        return Database(self._path)


def num_embedded(folder: Path) -> int:
    """How many entries an unfinished migration has embedded, but not mapped; 0 where there is none."""
    path = folder / MIGRATING_FILE
    if not path.exists():
        return 0
    database = Database(path)
    try:
        with database.reading() as connection:
            return int(tables.read_facts(connection)["count"]) - len(tables.mapped_keys(connection))
    finally:
        database.close()
