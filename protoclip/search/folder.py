"""An index that is open: its folder, its model, and what of both every call asks first."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from protoclip.contract.errors import IndexFileError

from . import tables
from .adapter import AdapterReport, read_report
from .approximate.tuned import Tuning, read_record
from .database import Database
from .judging import Judges, usable
from .mending import Mending
from .migration_state import Migrating, read_state
from .of_one_model import OfOneModel
from .relevance.calibrated import Calibration
from .snapshots import Snapshots
from .stats import IndexStats, stats_of
from .store import LOCAL, StoreTraits
from .writer_lock import WriterLock

if TYPE_CHECKING:
    import sqlite3


class IndexFolder(OfOneModel[Path]):
    """What an `Index` says of itself as a whole.

    Attributes: as of `Index`.
    """

    def __init__(self, path: Path, database: Database, facts: tables.Facts) -> None:
        """Use `build`, `create` or `open`."""
        self.path = path
        self.model = str(facts["model"])
        self.fingerprint = str(facts["fingerprint"])
        self.dim = int(facts["dim"])
        self.artifact: str | None = facts["artifact"]
        self._database = database
        self._writer_lock = WriterLock(path)
        self._snapshots = Snapshots(path)
        self._judges = Judges(path)
        self._mending = Mending(path, self._mend)
        self._facts_lock = threading.Lock()

    def stats(self) -> IndexStats:
        """What it holds, and how many bytes it takes."""
        with self._reading() as (connection, facts):
            return stats_of(connection, facts, self.path)

    @property
    def change(self) -> str:
        """Another text after every call that wrote, and of each index.

        For what is computed of all entries and kept.
        """
        with self._reading() as (_, facts):
            return f"{facts['build']}.{facts['change']}"

    @property
    def tuning(self) -> Tuning | None:
        """What the last `tune` found; None where the index was not tuned."""
        with self._reading() as (_, facts):
            record = read_record(facts)
            return None if record is None else record.tuning

    @property
    def relevance(self) -> Calibration | None:
        """How the last `calibrate` went; None where there was none, or of another model than the index has now."""
        with self._reading() as (_, facts):
            return usable(facts)

    @property
    def traits(self) -> StoreTraits:
        """What it promises."""
        found = self.tuning
        return LOCAL if found is None or found.engine == "exact" else replace(LOCAL, search="approximate")

    @property
    def migrating(self) -> Migrating | None:
        """How far a migration to another model is; None where there is none. Until its end nothing changes."""
        with self._reading() as (_, facts):
            found = read_state(self.path)
            return found if found is not None and found.of_build == facts["build"] else None

    @property
    def adapter(self) -> AdapterReport | None:
        """What was measured of the adapter by which `migrate` mapped some entries; None where it mapped none."""
        with self._reading() as (_, facts):
            return read_report(facts.get("adapter"), self.path)

    def close(self) -> None:
        """Closes its files; every other call fails then. May be called twice."""
        self._database.close()
        self._snapshots.forget()

    @abstractmethod
    def _mend(self) -> None:
        """Makes a lost accelerator anew, whether or not this index is still open."""

    def _check_other_model(self, fingerprint: str) -> None:
        """A migrating index isn't searched with its new model: half of the entries would be no hits."""
        going_on = self.migrating
        if going_on is not None and going_on.fingerprint == fingerprint:
            raise IndexFileError(
                f"{self.path}: its migration to {going_on.model} {fingerprint} isn't finished, {going_on.done} of "
                f"{going_on.total} entries are done: until then use {self._made_with()}"
            )

    def _look_again(self) -> None:
        """Takes over the model that the index has now."""
        with self._database.reading() as connection:
            facts = tables.read_facts(connection)
        with self._facts_lock:
            self.model, self.artifact = str(facts["model"]), facts["artifact"]
            self.fingerprint, self.dim = str(facts["fingerprint"]), int(facts["dim"])

    @contextmanager
    def _reading(self) -> Iterator[tuple[sqlite3.Connection, tables.Facts]]:
        with self._database.reading() as connection:
            yield connection, self._facts(connection)

    def _facts(self, connection: sqlite3.Connection) -> tables.Facts:
        facts = tables.read_facts(connection)
        if (facts["fingerprint"], facts["dim"]) != (self.fingerprint, self.dim):
            raise IndexFileError(f"{self.path}: was built again with another model meanwhile: open it again")
        return facts
