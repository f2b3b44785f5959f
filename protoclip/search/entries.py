"""What is stored with each vector: an id and metadata, one JSON object per line, in the order of the keys."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protoclip.contract.errors import ConfigError, IndexFileError


@dataclass(frozen=True)
class Entry:
    """Id and metadata of one vector."""

    id: str
    metadata: Mapping[str, Any]


def make_entries(ids: Sequence[str], metadata: Sequence[Mapping[str, Any]] | None, count: int) -> list[Entry]:
    """Entries for `count` vectors, with metadata as a JSON round trip gives it.

    Raises:
        ConfigError: other numbers of ids or metadata, an id that is not a text, or metadata that JSON can't hold.
    """
    if isinstance(ids, str) or len(ids) != count:
        raise ConfigError(f"{count} vectors need as many ids, in a list")
    if metadata is not None and len(metadata) != count:
        raise ConfigError(
            f"{count} vectors need as many metadata, not {len(metadata)}: use {{}} where there is none"
        )
    return [_make_entry(name, metadata[row] if metadata else {}) for row, name in enumerate(ids)]


def write_entries(path: Path, entries: Iterable[Entry]) -> None:
    """Writes one line per entry."""
    # An id may be a file name that isn't UTF-8: its surrogate escapes become JSON escapes.
    with open(path, "w", encoding="utf-8", errors="backslashreplace", newline="\n") as stream:
        for entry in entries:
            stream.write(json.dumps({"id": entry.id, "metadata": entry.metadata}, ensure_ascii=False) + "\n")


def read_entries(path: Path, count: int) -> list[Entry]:
    """Reads what `write_entries` wrote.

    Raises:
        IndexFileError: a line can't be parsed, or there aren't `count` of them.
    """
    entries = []
    with open(path, encoding="utf-8", newline="\n") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                fields = json.loads(line)
                entries.append(Entry(fields["id"], fields["metadata"]))
            except (KeyError, TypeError, ValueError) as error:
                raise IndexFileError(f"{path}: line {number} isn't readable: build the index again") from error
    if len(entries) != count:
        raise IndexFileError(f"{path}: {len(entries)} entries for {count} vectors: build the index again")
    return entries


def _make_entry(name: object, metadata: object) -> Entry:
    if not isinstance(name, str):
        raise ConfigError(f"id {name!r} is a {type(name).__name__}: ids are texts")
    if not isinstance(metadata, Mapping) or not all(isinstance(key, str) for key in metadata):
        raise ConfigError(f"metadata of {name!r} is no mapping from texts")
    try:
        return Entry(name, json.loads(json.dumps(dict(metadata), allow_nan=False)))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"metadata of {name!r} can't be written as JSON: {error}") from error
