"""Reading again what an index was built from, by what it remembers of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from protoclip.contract.addresses import url_of
from protoclip.contract.errors import DataError

from .entries import Label, id_text
from .source_record import PATHS, READ, Record, options_of
from .sources import Source, SourceItem, image_source

Labels: TypeAlias = Iterator[Label]


@dataclass(frozen=True)
class StoredSource:
    """Items by their ids, for entries that are to be embedded again.

    Attributes:
        name: for messages.
        are_images: whether its items are pictures, or else texts.
        items: of the entries whose labels are given; where a source is read whole, also of others.
    """

    name: str
    are_images: bool
    items: Callable[[Labels], Iterator[SourceItem]]


def given_source(source: Source) -> StoredSource:
    """Pictures that the caller gives."""
    return StoredSource("the pictures that were given", are_images=True, items=lambda _: iter(source.items))


def stored_source(record: Record, place: object) -> StoredSource:
    """The items of a remembered source; `place` is the index, for messages.

    Raises:
        DataError: what it was read from is not there any more, can't be read, or is a table that
            holds the pictures and has changed.
        ConfigError: as for reading it the first time.
        IndexFileError: the record can't be read.
    """
    if record["kind"] == READ:
        return _reading(record, place)
    if record["kind"] == PATHS:
        folder = Path(record["folder"])
        return StoredSource(f"paths below {folder}", are_images=True, items=lambda labels: _paths(folder, labels))
    return StoredSource("metadata 'text'", are_images=False, items=_texts)


def _reading(record: Record, place: object) -> StoredSource:
    options = options_of(record, place)
    source = image_source(options)
    again = source.record()
    if again is not None and record.get("tables", again["tables"]) != again["tables"]:
        raise DataError(
            f"{', '.join(options.paths)}: has changed since the index was built, so that its rows can't be told"
        )
    return StoredSource(", ".join(options.paths), are_images=True, items=lambda _: iter(source.items))


def _paths(folder: Path, labels: Labels) -> Iterator[SourceItem]:
    for label in labels:
        name = id_text(label.id)
        yield SourceItem(name, name if url_of(name) else folder / name, {})


def _texts(labels: Labels) -> Iterator[SourceItem]:
    for label in labels:
        text = label.decoded().get("text")
        if isinstance(text, str):
            yield SourceItem(id_text(label.id), text, {})
