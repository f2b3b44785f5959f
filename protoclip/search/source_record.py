"""What an index remembers of the pictures or texts that it was built from, so that they can be embedded again.

It is the arguments of the reading, not a place for each entry: the same reading gives the same ids again. Of
entries that `add` and `upsert` brought, nothing is known but the vectors.
"""

from __future__ import annotations

import json
import math
import os
import re
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

from protoclip.contract.addresses import url_of
from protoclip.contract.errors import IndexFileError
from protoclip.sources import ReadOptions
from protoclip.sources.files import is_address, resolved

from . import tables

Record: TypeAlias = dict[str, Any]
READ, PATHS, TEXTS = "read", "paths", "texts"
# A name with a password before the host, or a signature behind the path: nothing that a file should keep.
_SECRET = re.compile(r"://[^/]*@|\?")
_NOT_KEPT = ("cache_dir", "max_left_out")


def may_hold_secret(options: ReadOptions) -> bool:
    """Whether an address among the paths has what no file should keep."""
    return any(url_of(path) and _SECRET.search(path) for path in options.paths)


def record_of_reading(options: ReadOptions, states: Sequence[str] | None = None) -> Record | None:
    """What to remember of a folder, table, archive or address; None where its address may hold a secret.

    Args:
        states: of the tables that hold pictures themselves, whose rows are the ids of some; None: none do.
    """
    if may_hold_secret(options):
        return None
    values = {name: value for name, value in asdict(options).items() if name not in _NOT_KEPT}
    values["paths"] = [_lasting(path) for path in options.paths]
    return {"kind": READ, "options": values, "tables": None if states is None else list(states)}


def record_of_paths(folder: Path) -> Record:
    """What to remember of a list of paths, from `folder` on, which are the ids."""
    return {"kind": PATHS, "folder": str(folder)}


def record_of_texts() -> Record:
    """What to remember of texts, which are stored as metadata `text`."""
    return {"kind": TEXTS}


def options_of(record: Record, place: object) -> ReadOptions:
    """How the pictures of a READ record were read; IndexFileError, of `place`, where this version can't tell."""
    try:
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in record["options"].items()
        }
        # What is gone is named one by one; that it is much is no reason to read none.
        return ReadOptions(**{**values, "max_left_out": math.inf})
    except (TypeError, AttributeError, KeyError) as error:
        raise unreadable(place) from error


def written(records: Sequence[Record]) -> str | None:
    """The fact `sources` of the table `meta`; None where there are none."""
    # In ASCII: names of files may hold bytes that are no UTF-8.
    return json.dumps(list(records)) if records else None


def remember_sources(connection: sqlite3.Connection, records: list[Record], last_key: int | None) -> None:
    """Writes them into the table `meta`, for the entries up to `last_key`; None: for whatever is added, too."""
    tables.set_fact(connection, "sources", written(records))
    tables.set_fact(connection, "last_built", last_key if records else None)


def last_built(facts: tables.Facts) -> int | None:
    """The key up to which entries are of the remembered sources; None: all are."""
    if facts.get("sources") is None:
        return 0
    key = facts.get("last_built")
    return None if key is None else int(key)


def remembered_sources(facts: tables.Facts, place: object) -> list[Record]:
    """Those of an index, in the order in which they are to be asked.

    Raises:
        IndexFileError: what is there is none that was written; `place` is the index.
    """
    written = facts.get("sources")
    if written is None:
        return []
    try:
        records = json.loads(str(written))
        if all(record["kind"] in (READ, PATHS, TEXTS) for record in records):
            return list(records)
    except (ValueError, TypeError, KeyError):
        pass
    raise unreadable(place)


def unreadable(place: object) -> IndexFileError:
    """The error for a record that this version can't read."""
    return IndexFileError(
        f"{place}: what it says of where its pictures are is damaged, or of a later version: say it with images= "
        "(--images)"
    )


def _lasting(path: str) -> str:
    # A pattern is made absolute too, which Path's own way to do so would take for a file.
    return path if is_address(path) else os.path.abspath(resolved(path))  # noqa: PTH100
