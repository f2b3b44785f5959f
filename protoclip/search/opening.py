"""Making and opening the database of an index, and converting one of the first format."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any, TypeAlias

from protoclip.contract.errors import IndexFileError

from . import tables
from .database import Database, TemporaryDatabase, create_database
from .old_format import load_record, read_old
from .places import (
    DATABASE_FILE,
    NEW_FILE,
    OLD_FILES,
    check_is_index,
    held_folder,
    is_old,
    leave_nothing,
    put_in_place,
    remove_database,
)
from .upkeep import tidy

Facts: TypeAlias = dict[str, Any]
_OF_A_BUILD = ("model", "fingerprint", "dim", "artifact", "count", "build")
# Of the entries, where it is known; `pictures` is of earlier versions, and says what `sources` does.
_OF_ENTRIES = ("sources", "last_built", "adapter", "pictures")


def first_facts(model: str, fingerprint: str, dim: int, artifact: str | None) -> Facts:
    """The table `meta` of an empty index."""
    return {
        "model": model,
        "fingerprint": fingerprint,
        "dim": dim,
        "artifact": artifact,
        "count": 0,
        "change": 0,
        "generation": 0,
        "removals": 0,
        "build": secrets.token_hex(8),
    }


def new_database(path: Path, facts: Facts, *, replace: bool) -> None:
    """Makes an empty index at `path`, with `replace` in place of one that is there.

    Raises:
        IndexFileError: there is one, without `replace`.
        ProtoclipError: it can't be written.
    """
    with held_folder(path):
        if not replace and ((path / DATABASE_FILE).exists() or is_old(path)):
            raise IndexFileError(f"{path}: an index is here: open it, or give replace=True")
        remove_database(path / NEW_FILE)
        try:
            create_database(path / NEW_FILE, facts)
            take_place(path / NEW_FILE, facts)
        except BaseException:
            remove_database(path / NEW_FILE)
            leave_nothing(path)
            raise


def take_place(made: Path, facts: Facts) -> None:
    """Puts a settled database, whose table `meta` holds `facts`, in place of what the folder holds, in one step.

    Raises:
        ProtoclipError: the disk is full, or the folder can't be written.
    """
    folder = made.parent
    if not (folder / DATABASE_FILE).exists():
        put_in_place(made, folder / DATABASE_FILE)
        for name in OLD_FILES:
            (folder / name).unlink(missing_ok=True)
        return
    index = Database(folder / DATABASE_FILE)
    try:
        index.replace(
            made,
            {name: facts[name] for name in _OF_A_BUILD} | {name: facts.get(name) for name in _OF_ENTRIES},
        )
        tidy(folder, index, int(facts["dim"]))
    finally:
        index.close()


def opened(path: Path) -> tuple[Database, tables.Facts]:
    """The database of the index at `path`, and what it says of itself.

    Raises:
        IndexFileError: none, an unfinished one, or a damaged one.
        ConfigError: an index of the first format, and faiss isn't installed.
    """
    check_is_index(path)
    database = _from_old(path) if is_old(path) else Database(path / DATABASE_FILE)
    try:
        with database.reading() as connection:
            facts = tables.read_facts(connection)
        missing = first_facts("", "", 0, None).keys() - facts.keys()
        if missing:
            raise IndexFileError(f"{path / DATABASE_FILE}: lacks {min(missing)!r}: build the index again")
    except BaseException:
        database.close()
        raise
    return database, facts


def convert(path: Path, old: Database) -> Database:
    """Puts what was read of an index of the first format in its place; the caller holds the writer's lock.

    Raises:
        ProtoclipError: it can't be written.
    """
    if not is_old(path):
        # Another process was first.
        old.close()
        return opened(path)[0]
    remove_database(path / NEW_FILE)
    with old.reading() as connection:
        create_database(path / NEW_FILE, tables.read_facts(connection))
        made = Database(path / NEW_FILE)
        try:
            with made.writing() as written:
                for name, places in (("entries", 4), ("vectors", 3)):
                    rows = connection.execute(f"SELECT * FROM {name} ORDER BY key")
                    written.executemany(f"INSERT INTO {name} VALUES ({','.join('?' * places)})", rows)
            made.settle()
        finally:
            made.close()
    put_in_place(path / NEW_FILE, path / DATABASE_FILE)
    old.close()
    for name in OLD_FILES:
        (path / name).unlink(missing_ok=True)
    return Database(path / DATABASE_FILE)


def _from_old(path: Path) -> Database:
    record = load_record(path)
    database = TemporaryDatabase(path / DATABASE_FILE)
    try:
        with database.writing() as connection:
            facts = first_facts(record.model, record.fingerprint, record.dim, record.artifact)
            for name, value in facts.items():
                tables.set_fact(connection, name, value)
            for labels, vectors in read_old(path, record):
                tables.insert(connection, labels, vectors)
    except BaseException:
        database.close()
        raise
    return database
