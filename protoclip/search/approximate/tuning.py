"""Tuning an index: what it is made of is read at one moment, and what was made counts from another one on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from protoclip.contract.errors import ConfigError, IndexBusyError, IndexFileError
from protoclip.contract.progress import Progress
from protoclip.search.tables import read_facts, set_fact
from protoclip.search.vectors import Array
from protoclip.search.view import View
from protoclip.search.writer_lock import WriterLock

from .files import NEW_FILE, put_accelerator_in_place, remove_unnamed, write_accelerator
from .kept_queries import keep_queries
from .library import load_faiss
from .making import FEWEST, make
from .tuned import FACT, Record, Tuning, read_record

if TYPE_CHECKING:
    import sqlite3

TUNING_LOCK = "tuning.lock"
FEWEST_QUERIES = 100
Writing = Callable[[], AbstractContextManager["sqlite3.Connection"]]


def check_options(recall: float, queries: Array | None) -> None:
    """Raises ConfigError where they can't be tuned to, or faiss isn't installed."""
    load_faiss()
    if isinstance(recall, bool) or not isinstance(recall, int | float) or not 0 < recall < 1:
        raise ConfigError(f"recall={recall!r} (--recall) must be a number between 0 and 1, such as 0.99")
    if queries is not None and len(queries) < FEWEST_QUERIES:
        raise ConfigError(
            f"{len(queries)} queries (--queries) are too few to tune with: give at least {FEWEST_QUERIES}, better "
            "1000"
        )


def tuning_lock(folder: Path, wait_s: float | None = None) -> WriterLock:
    """Held by the one process that tunes an index; others write to the index meanwhile."""
    return WriterLock(folder, TUNING_LOCK, "tunes it", wait_s)


def tune(
    folder: Path, view: View, build: str, queries: Array, recall: float, progress: Progress, writing: Writing
) -> Tuning:
    """Makes an accelerator of a checked view and tunes it; the caller holds `tuning_lock`.

    Raises:
        ConfigError: too few entries.
        IndexFileError: the index was built again meanwhile.
        ProtoclipError: the disk is full, or the folder can't be written.
    """
    count = sum(len(part.keys) if part.live is None else int(part.live.sum()) for part in view.parts())
    if not has_enough(count):
        raise ConfigError(
            f"{folder}: holds {count} entries, and tuning needs {FEWEST}: so few are soon compared with each query"
        )
    made = make(view, queries, recall, progress)
    try:
        file = None if made.accelerator is None else write_accelerator(folder, made.accelerator)
        with writing() as connection:
            if read_facts(connection)["build"] != build:
                raise IndexFileError(f"{folder}: was built again meanwhile: tune it again")
            if file is not None:
                put_accelerator_in_place(folder, file)
            keep_queries(connection, build, made.queries)
            set_fact(connection, FACT, Record(build, made.tuning, file).to_json())
    finally:
        (folder / NEW_FILE).unlink(missing_ok=True)
    return made.tuning


def has_enough(count: int) -> bool:
    """Whether so many entries can be tuned."""
    return count >= FEWEST


def forget_tuning(connection: sqlite3.Connection) -> None:
    """Has an index be one that was never tuned, all of whose searches are exact."""
    set_fact(connection, FACT, None)


def remove_ended_tuning(folder: Path, connection: sqlite3.Connection) -> None:
    """Removes what a killed process left, and accelerators that don't count; by who holds the writer's lock."""
    record = read_record(read_facts(connection))
    remove_unnamed(folder, None if record is None else record.file)
    if not (folder / NEW_FILE).exists():
        return
    try:
        with tuning_lock(folder, wait_s=0.0).held():
            (folder / NEW_FILE).unlink(missing_ok=True)
    except IndexBusyError:
        # Who holds it removes it.
        return
