"""What an index is built from: items with their ids and metadata, from folders, tables and lists."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from protoclip.client.inputs import ImageItem, image_items, text_items
from protoclip.contract.addresses import AddressError, local_path, shown
from protoclip.contract.errors import ConfigError, DataError
from protoclip.contract.picture_folders import Skipped, find_pictures

Metadata: TypeAlias = str | Path | Mapping[str, Mapping[str, Any]]

IMAGE_COLUMN = "image"
_TABLES = (".csv", ".jsonl")


@dataclass(frozen=True)
class SourceItem:
    """One item to embed."""

    id: str
    item: Any
    metadata: Mapping[str, Any]


@dataclass(frozen=True)
class Source:
    """Items to embed, their number (None: unknown), and what was left out beforehand."""

    items: Iterable[SourceItem]
    total: int | None
    skipped: tuple[Skipped, ...] = ()


def image_source(images: str | Path | Iterable[ImageItem]) -> Source:
    """Pictures of a folder, a table, or several items; see `Index.build`.

    Raises:
        ConfigError: none of these.
        DataError: a folder without pictures, or a table that can't be read.
    """
    if isinstance(images, str | Path):
        path = _local(images, "images")
        if path.suffix.lower() in _TABLES:
            return _table_source(path)
        if os.path.isfile(path):  # noqa: PTH113 - Path's raises where a name is too long
            raise ConfigError(f"images={str(path)!r} is one file: give a folder, a .csv, a .jsonl, or a list")
        return _folder_source(path)
    items, single = image_items(images)
    if single:
        raise ConfigError("images is a single item: give a list of them")
    return Source(_numbered(items), _length(items))


def text_source(texts: Iterable[str]) -> Source:
    """Texts, numbered."""
    items, single = text_items(texts)
    if single:
        raise ConfigError("texts is a single text: give a list of them")
    numbered = (SourceItem(str(row), text, {"text": text}) for row, text in enumerate(items))
    return Source(numbered, _length(items))


def read_metadata(metadata: Metadata) -> dict[str, Mapping[str, Any]]:
    """Metadata by id, from a table with a column `image`, or unchanged from a mapping.

    Raises:
        ConfigError: neither.
        DataError: the table can't be read.
    """
    if isinstance(metadata, Mapping):
        return dict(metadata)
    path = _local(metadata, "metadata") if isinstance(metadata, str | Path) else None
    if path is None or path.suffix.lower() not in _TABLES:
        raise ConfigError(f"metadata={metadata!r}: give a .csv or .jsonl file, or a mapping from ids")
    return read_table(path)


def read_table(path: Path) -> dict[str, Mapping[str, Any]]:
    """The rows of a `.csv` or `.jsonl` file by their column `image`, without that column.

    Raises:
        DataError: no such file, a line that can't be read or has no `image`, or an `image` twice.
    """
    rows: dict[str, Mapping[str, Any]] = {}
    try:
        for line, row in _read_csv(path) if path.suffix.lower() == ".csv" else _read_jsonl(path):
            name = row.pop(IMAGE_COLUMN, None)
            if not isinstance(name, str) or not name:
                raise DataError(f"{path}: line {line}: no column {IMAGE_COLUMN!r}, which says the picture")
            if name in rows:
                raise DataError(f"{path}: line {line}: {IMAGE_COLUMN} {name!r} is there twice")
            rows[name] = row
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: can't be read: {getattr(error, 'strerror', None) or error}") from error
    return rows


def _read_csv(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    # Spreadsheet programs put a byte-order mark before the first column's name.
    with open(path, encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream, strict=True)
        for row in reader:
            if None in row or None in row.values():
                raise DataError(f"{path}: line {reader.line_num}: not as many fields as the first line has")
            yield reader.line_num, row


def _read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with open(path, encoding="utf-8") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                row = json.loads(line)
            except ValueError as error:
                raise DataError(f"{path}: line {number}: no JSON: {error}") from error
            if not isinstance(row, dict):
                raise DataError(f"{path}: line {number}: no JSON object")
            yield number, row


def _folder_source(folder: Path) -> Source:
    listing = find_pictures(folder)
    if not listing.pictures:
        raise DataError(f"{folder}: no picture in it or below")
    items = [SourceItem(path.relative_to(folder).as_posix(), path, {}) for path in listing.pictures]
    return Source(items, len(items), listing.skipped)


def _table_source(path: Path) -> Source:
    rows = read_table(path)
    items = [_row_item(path, name, row) for name, row in rows.items()]
    return Source(items, len(items))


def _local(name: str | Path, argument: str) -> Path:
    try:
        return Path(local_path(str(name)))
    except AddressError as error:
        raise ConfigError(f"{argument}: {error}") from None


def _row_item(table: Path, name: str, row: Mapping[str, Any]) -> SourceItem:
    try:
        return SourceItem(name, table.parent / local_path(name), row)
    except AddressError:
        # The client refuses the name, as this item's error; a data URI is too long to be listed.
        return SourceItem(shown(name), name, row)


def _numbered(items: Iterable[ImageItem]) -> Iterator[SourceItem]:
    for row, item in enumerate(items):
        yield SourceItem(_path_id(item) if isinstance(item, str | os.PathLike) else str(row), item, {})


def _path_id(path: str | os.PathLike[Any]) -> str:
    name = str(path)
    return shown(name) if name[:5].lower() == "data:" else name


def _length(items: object) -> int | None:
    return len(items) if isinstance(items, Sized) else None
