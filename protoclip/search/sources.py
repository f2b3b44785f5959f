"""What an index is built from: items with their ids and metadata, from folders, tables, archives and lists."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any, TypeAlias

from protoclip.client.inputs import ImageItem, image_items, text_items
from protoclip.contract.errors import ConfigError
from protoclip.contract.picture_folders import Skipped
from protoclip.sources import Pairs, ReadOptions, read_pairs
from protoclip.sources.columns import TableColumns, as_text
from protoclip.sources.stored import ImageColumn, PictureStream, StoredPicture

from .item_content import ItemContents
from .pictures import picture_names, table_states
from .source_record import Record, record_of_paths, record_of_reading, record_of_texts

Metadata: TypeAlias = str | Path | ReadOptions | Mapping[str, Mapping[str, Any]]


class SkippedWarning(UserWarning):
    """Items of a build, or columns of its metadata, were left out."""


@dataclass(frozen=True)
class SourceItem:
    """One item to embed; `place` says where a picture in a table lies, for messages.

    `content` tells items of one id apart, as `ItemContents` does.
    """

    id: str
    item: Any
    metadata: Mapping[str, Any]
    place: str | None = None
    content: bytes | None = None


@dataclass(frozen=True)
class Source:
    """Items to embed, their number (None: unknown), and what was left out beforehand.

    `record` says, once the items were read, what to remember of it to read them again; None: they can't be.
    """

    items: Iterable[SourceItem]
    total: int | None
    skipped: tuple[Skipped, ...] = ()
    record: Callable[[], Record | None] = lambda: None


def image_source(images: str | Path | ReadOptions | Iterable[ImageItem]) -> Source:
    """Pictures of a folder, a table or an archive, or several items; see `Index.build`.

    Raises:
        ConfigError: none of these, or data that can be read in two ways.
        DataError: nothing to read, or a table that can't be read.
    """
    if isinstance(images, str | Path):
        images = ReadOptions((str(images),), texts=False, decoded_here=False)
    if isinstance(images, ReadOptions):
        pairs = read_pairs(images)
        record = record_of_reading(images, table_states(pairs))
        skipped = pairs.left_out + _columns_left_out(pairs)
        return Source(_entries(pairs, ItemContents()), len(pairs), skipped, lambda: record)
    items, single = image_items(images)
    if single:
        raise ConfigError("images is a single item: give a list of them")
    numbered = _Numbered(items)
    return Source(numbered, _length(items), record=numbered.record)


def text_source(texts: Iterable[str]) -> Source:
    """Texts, numbered."""
    items, single = text_items(texts)
    if single:
        raise ConfigError("texts is a single text: give a list of them")
    contents = ItemContents()
    numbered = (
        SourceItem(str(row), text, {"text": text}, content=contents.digest(text)) for row, text in enumerate(items)
    )
    return Source(numbered, _length(items), record=record_of_texts)


def read_metadata(metadata: Metadata) -> dict[str, Mapping[str, Any]]:
    """Metadata by id, from a table's column of pictures, or unchanged from a mapping.

    A SkippedWarning names each column of the table that can't be metadata.

    Raises:
        ConfigError: neither, or a column that can't be told.
        DataError: the table can't be read.
    """
    if isinstance(metadata, Mapping):
        return dict(metadata)
    if isinstance(metadata, str | Path):
        metadata = ReadOptions((str(metadata),), texts=False, layout="table")
    if not isinstance(metadata, ReadOptions):
        raise ConfigError(f"metadata={metadata!r}: give a table, or a mapping from ids")
    pairs = read_pairs(metadata)
    for column in _columns_left_out(pairs):
        warnings.warn(f"metadata: {column.name} is left out: it {column.reason}", SkippedWarning, stacklevel=3)
    return {entry.id: entry.metadata for entry in _entries(pairs)}


def _entries(pairs: Pairs, contents: ItemContents | None = None) -> Iterator[SourceItem]:
    """The pictures with their ids, as `picture_names` gives them.

    Metadata are the other columns; the caption's holds all texts where a picture has several.
    """
    images, columns = pairs.images, pairs.columns
    assert isinstance(images, ImageColumn)
    assert isinstance(columns, TableColumns)
    names = list(columns.columns)
    caption = None if columns.captions is None else columns.captions[0]
    values: Iterable[tuple[Any, ...]] = zip(*(columns.raw(name) for name in names), strict=True)
    rows = zip(picture_names(pairs), values if names else repeat(()), pairs.texts, strict=False)
    for row, (name, own, texts) in enumerate(rows):
        metadata = {key: _plain(item) for key, item in zip(names, own, strict=True)}
        metadata = {key: value for key, value in metadata.items() if value is not None}
        if caption is not None and texts and (len(texts) > 1 or caption not in names):
            metadata[caption] = list(texts) if len(texts) > 1 else texts[0]
        image = images[row]
        item = PictureStream(image) if isinstance(image, StoredPicture) else image
        place = pairs.picture_place(row) if images.is_in_table(row) else None
        yield SourceItem(name, item, metadata, place, None if contents is None else contents.digest(image))


def _columns_left_out(pairs: Pairs) -> tuple[Skipped, ...]:
    columns = pairs.columns
    found = columns.left_out if isinstance(columns, TableColumns) else {}
    return tuple(Skipped(f"column {name!r}", reason) for name, reason in found.items())


def _plain(value: Any) -> Any:
    """A value as JSON holds it; NaN is a missing one."""
    if isinstance(value, float):
        return None if math.isnan(value) else value if math.isfinite(value) else str(value)
    if value is None or isinstance(value, str | int | list):
        return value
    return as_text(value)


class _Numbered:
    """Items of a list: of paths these are the ids, and of all else the positions."""

    def __init__(self, items: Iterable[ImageItem]) -> None:
        self._items = items
        self._folder = Path.cwd()
        self._are_paths = True

    def __iter__(self) -> Iterator[SourceItem]:
        contents = ItemContents()
        for row, item in enumerate(self._items):
            is_path = isinstance(item, str | Path)
            self._are_paths = self._are_paths and is_path
            content = contents.digest(Path(item) if isinstance(item, str) else item)
            yield SourceItem(str(item) if is_path else str(row), item, {}, content=content)

    def record(self) -> Record | None:
        """Where the paths lead to; None where there was something else among them."""
        return record_of_paths(self._folder) if self._are_paths else None


def _length(items: object) -> int | None:
    return len(items) if isinstance(items, Sized) else None
