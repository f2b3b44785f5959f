"""Reads whatever people have as pairs: finds its parts, chooses the columns, and counts what is left out."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protoclip.contract.errors import ConfigError, DataError
from protoclip.contract.picture_folders import Skipped

from .arrow_store import store_batches
from .cache import TableCache
from .choose import choose_columns, find_shared_column, shared_names
from .columns import TextColumn, count_distinct, text_hashes
from .layouts import find_parts
from .left_out import check_left_out, counts_by_reason
from .merge import find_same_rows, merged_batches, row_hashes
from .options import ALL_SPLITS, ReadOptions
from .pairs import Pairs, table_pairs
from .part import OFFSET, SIZE, SPLIT, Part
from .picture_trees import TreePart
from .row_choice import RowArray, row_type
from .rows import NO_TEXT, Columns, form_rows
from .split_folders import SplitFoldersPart
from .stored import Origin
from .unnamed import UnnamedPictures


def _parts(options: ReadOptions) -> list[Part]:
    """The parts; a column `split` of a table's own says more than the name of its file."""
    parts = find_parts(options)
    for part in parts:
        if part.split is not None and SPLIT in part.schema().names:
            part.split = None
    return parts


def column_names(options: ReadOptions) -> list[str]:
    """The columns that all parts have, `split` among them where files or folders are called like one.

    Raises:
        DataError, ConfigError: as `read_pairs`.
    """
    return shared_names(_parts(options))


def name_of_column(options: ReadOptions, known: Sequence[str], setting: str) -> str:
    """The one column of all parts that is among the `known` names.

    Raises:
        ConfigError: none or several are, or the parts call theirs by different names.
        DataError: as `read_pairs`.
    """
    return find_shared_column(_parts(options), known, setting)


def read_pairs(options: ReadOptions) -> Pairs:
    """Reads all rows of all paths. Rows of one picture file are one pair with the texts of all of them.

    The pair stands at the first of these rows, whose other columns it has; rows that differ in a column of
    `options.apart` stay apart, and so do pictures in a table or an archive itself. What was read last is kept:
    reading it again costs nothing as long as the files are as they were.

    Raises:
        DataError: a file is missing or unreadable, a column isn't there, no row is left, or more is left out than
            `options.max_left_out` allows.
        ConfigError: the data can be read in two ways, or a column can't be told by its name; says both ways.
    """
    parts = _parts(options)
    with TableCache(parts, options) as cache:
        if cache.pairs is None:
            with _without_collection():
                cache.keep(_read(parts, options, cache))
        assert cache.pairs is not None
        return cache.pairs


@contextmanager
def _without_collection() -> Iterator[None]:
    """Rows are millions of short-lived lists without circles: looking for some takes longer than reading them."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@dataclass
class _Reading:
    """What comes out beside the rows."""

    num_read: int = 0
    num_kept: int = 0
    dropped: list[NDArray[np.int64]] = field(default_factory=list)
    hashes: list[NDArray[np.int64]] = field(default_factory=list)
    text_hashes: list[NDArray[np.int64]] = field(default_factory=list)
    origins: list[Origin] = field(default_factory=list)
    left_out: list[Skipped] = field(default_factory=list)
    unnamed: UnnamedPictures = field(default_factory=UnnamedPictures)
    splits: set[str] = field(default_factory=set)


def _read(parts: list[Part], options: ReadOptions, cache: TableCache) -> Pairs:
    where = ", ".join(options.paths)
    _check_splits(parts, options)
    columns = choose_columns(parts, options)
    reading = _Reading(unnamed=UnnamedPictures(parts))
    table = store_batches(_batches(parts, columns, options, reading), columns.schema, cache.new_file())
    reading.left_out += [skipped for part in parts for skipped in part.left_out]
    reading.left_out += reading.unnamed.left_out()
    if not table.num_rows:
        raise DataError(_nothing_left(where, parts, columns, reading, options))
    check_left_out(reading.left_out, table.num_rows, options.max_left_out, where)
    num_distinct: int | None = count_distinct(reading.text_hashes)
    places = _places(reading)
    same = find_same_rows(np.concatenate(reading.hashes)) if reading.hashes else None
    if same is not None:
        num_distinct = None
        places = places[same.first_rows]
        reading.origins = _moved(reading.origins, same.first_rows)
        table = store_batches(merged_batches(table, same, options.agreeing), columns.schema, cache.new_file())
    return table_pairs(table, reading.origins, places, reading.num_read, tuple(reading.left_out), num_distinct)


def _places(reading: _Reading) -> RowArray:
    """[n], the row of each that is kept among those that were read."""
    every = np.arange(reading.num_read, dtype=row_type(reading.num_read))
    return np.delete(every, np.concatenate(reading.dropped)) if reading.dropped else every


def _batches(parts: list[Part], columns: Columns, options: ReadOptions, reading: _Reading) -> Iterator[Any]:
    mergeable = not all(part.archive for part in parts)
    for part in parts:
        if options.split not in (None, ALL_SPLITS) and part.split not in (None, options.split):
            reading.unnamed.pass_over(part)
            continue
        reading.origins.append(
            Origin(
                reading.num_kept,
                part.folder,
                part.name if part.archive else None,
                part.source,
                part.name,
                reading.num_read,
            )
        )
        first_row = 0
        wanted = [name for name in columns.read if name in part.schema().names]
        for chunk in part.chunks([*wanted, *((OFFSET, SIZE) if part.archive else ())]):
            reading.unnamed.strike_out(part, chunk.batch.column(columns.image))
            formed = form_rows(part, chunk, columns, first_row)
            batch, kept = _of_split(formed.batch, formed.kept, options, reading)
            total = chunk.batch.num_rows
            if len(kept) < total:
                reading.dropped.append(reading.num_read + np.delete(np.arange(total), kept))
            if mergeable:
                reading.hashes.append(row_hashes(batch, part, options.apart, reading.num_kept))
            texts = TextColumn(batch.column("texts"))
            reading.text_hashes += [text_hashes(*block) for block in texts.blocks()]
            reading.left_out += formed.left_out
            reading.num_read += total
            reading.num_kept += len(kept)
            first_row += total
            yield batch


def _of_split(
    batch: Any, kept: NDArray[np.int64], options: ReadOptions, reading: _Reading
) -> tuple[Any, NDArray[np.int64]]:
    import pyarrow as pa

    name = f":{SPLIT}"
    if options.split in (None, ALL_SPLITS) or name not in batch.schema.names:
        return batch, kept
    splits = [str(value) for value in batch.column(name).to_pylist()]
    reading.splits.update(splits)
    chosen = np.array([split == options.split for split in splits], dtype=np.bool_)
    return batch.filter(pa.array(chosen)), kept[chosen]


def _check_splits(parts: list[Part], options: ReadOptions) -> None:
    found = _splits(parts)
    if options.split is None and not options.keep_splits and len(found) > 1:
        shown = ", ".join(found)
        raise ConfigError(
            f"data.path: {', '.join(options.paths)}: holds the splits {shown}: say which with "
            f"data.split_column=split and data.train_split={found[0]}, or `{ALL_SPLITS}` for all of them"
        )
    if options.split != ALL_SPLITS and (options.split is not None or options.keep_splits):
        _check_all_have_splits(parts, options)
    names = shared_names(parts)
    if options.split not in (None, ALL_SPLITS) and SPLIT not in names:
        raise ConfigError(
            f"split {options.split!r}: {', '.join(options.paths)} has no splits, neither by its files' names nor "
            f"in a column {SPLIT!r}: leave it out"
        )


def _check_all_have_splits(parts: list[Part], options: ReadOptions) -> None:
    """Rows without a split would be of none, and left out without a word."""
    having = [part for part in parts if part.split is not None or SPLIT in part.schema().names]
    if having and len(having) < len(parts):
        without = next(part for part in parts if part not in having)
        raise ConfigError(
            f"data.path: {having[0].name} has splits and {without.name} has none: take all rows with "
            f"--set data.train_split={ALL_SPLITS} in a run, --split {ALL_SPLITS} elsewhere, or name only files of "
            "the split that is wanted"
        )


def _splits(parts: list[Part]) -> list[str]:
    """The splits that files and folders are called like, in their order."""
    found = {part.split for part in parts if part.split is not None}
    for part in parts:
        if isinstance(part, TreePart | SplitFoldersPart):
            found |= part.splits()
    return sorted(found)


def _nothing_left(where: str, parts: list[Part], columns: Columns, reading: _Reading, options: ReadOptions) -> str:
    if options.split not in (None, ALL_SPLITS) and not reading.left_out:
        there = sorted({*reading.splits, *(part.split for part in parts if part.split is not None)})
        return f"{where}: no row is of the split {options.split!r}: there are {', '.join(map(repr, there))}"
    if not reading.left_out:
        return f"{where}: holds no row"
    first = reading.left_out[0]
    if all(skipped.reason == NO_TEXT for skipped in reading.left_out):
        return f"{where}: no row has a text in {', '.join(columns.texts)}; the first: {first.name}"
    counts = counts_by_reason(reading.left_out)
    return f"{where}: no row is left: {counts}; the first: {first.name}: {first.reason}"


def _moved(origins: list[Origin], first_rows: NDArray[np.int64]) -> list[Origin]:
    """The origins where only `first_rows` of the rows are left."""
    return [replace(origin, first_row=int(np.searchsorted(first_rows, origin.first_row))) for origin in origins]
