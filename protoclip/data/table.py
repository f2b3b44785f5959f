"""Tables of image-text pairs: CSV, TSV, JSON Lines and Parquet files, and class folders. `N` rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protoclip.config.schema import DataConfig
from protoclip.contract.errors import DataError
from protoclip.contract.picture_folders import Skipped

from .folders import read_class_folders
from .text_tables import read_delimited, read_json_lines

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")


@dataclass(frozen=True)
class Pairs:
    """N pictures with their texts; `left_out` are files that were passed over when they were read.

    Attributes:
        images: [N], a path or the encoded bytes of each picture.
        texts: [N], the texts of each picture, none empty; the first is its label text.
        columns: the other columns, [N] each.
        places: [N], the row of each among the `num_read` rows that were read, before any was left out; by default
            0 to N − 1.
    """

    images: Sequence[Path | bytes]
    texts: tuple[tuple[str, ...], ...]
    columns: Mapping[str, NDArray[Any]]
    places: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    num_read: int = 0
    left_out: tuple[Skipped, ...] = ()

    def __post_init__(self) -> None:
        if not self.num_read:
            object.__setattr__(self, "places", np.arange(len(self)))
            object.__setattr__(self, "num_read", len(self))

    def __len__(self) -> int:
        return len(self.texts)

    def read_image(self, index: int) -> bytes:
        """The encoded bytes of one picture.

        Raises:
            DataError: its file can't be read.
        """
        image = self.images[index]
        if isinstance(image, bytes):
            return image
        try:
            return image.read_bytes()
        except OSError as error:
            raise DataError(f"{image}: can't be read: {error.strerror}") from error

    def select(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Pairs:
        """The given rows (positions, or a mask [N]) in their order."""
        positions = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        return Pairs(
            images=[self.images[i] for i in positions],
            texts=tuple(self.texts[i] for i in positions),
            columns={name: column[positions] for name, column in self.columns.items()},
            places=self.places[positions],
            num_read=self.num_read,
            left_out=self.left_out,
        )

    def column(self, name: str) -> NDArray[Any]:
        """A column by name.

        Raises:
            DataError: there is none of that name.
        """
        if name not in self.columns:
            raise DataError(f"column {name!r} is not in the data: it has {', '.join(sorted(self.columns))}")
        return self.columns[name]


def load_pairs(config: DataConfig) -> Pairs:
    """Reads all rows of all files; rows without any text are left out.

    Raises:
        DataError: a file is missing or unreadable, a column isn't there, or no row is left.
    """
    tables = [_load_table(path, config) for path in expand_paths(config.path)]
    shared = set.intersection(*(set(table.columns) for table in tables))
    pairs = Pairs(
        images=[image for table in tables for image in table.images],
        texts=tuple(texts for table in tables for texts in table.texts),
        columns={name: np.concatenate([table.columns[name] for table in tables]) for name in sorted(shared)},
        left_out=tuple(skipped for table in tables for skipped in table.left_out),
    )
    with_text = np.array([bool(texts) for texts in pairs.texts], dtype=np.bool_)
    if not with_text.any():
        raise DataError(f"{', '.join(config.path)}: no row has a text in {', '.join(config.text_columns)}")
    return merge_captions(
        pairs if with_text.all() else pairs.select(with_text), (config.split_column, config.group_column)
    )


def merge_captions(pairs: Pairs, columns: Sequence[str | None] = ()) -> Pairs:
    """Rows that name the same picture file, as one pair with the texts of all of them.

    The pair stands at the first row, whose other columns it has. Rows that differ in one of `columns` stay
    apart, and pictures in the table itself are left alone.
    """
    if not all(isinstance(image, Path) for image in pairs.images):
        return pairs
    apart = zip(pairs.images, *(pairs.column(name).tolist() for name in columns if name is not None), strict=True)
    rows: dict[tuple[Any, ...], list[int]] = {}
    for row, key in enumerate(apart):
        rows.setdefault(key, []).append(row)
    if len(rows) == len(pairs):
        return pairs
    merged = pairs.select(np.array([own[0] for own in rows.values()]))
    texts = tuple(tuple(dict.fromkeys(text for row in own for text in pairs.texts[row])) for own in rows.values())
    return replace(merged, texts=texts)


def training_pairs(pairs: Pairs, config: DataConfig) -> Pairs:
    """The rows of the training split, or all where no split column is set.

    Raises:
        DataError: the split column isn't there or holds no training row.
    """
    if config.split_column is None:
        return pairs
    splits = pairs.column(config.split_column)
    chosen = splits == config.train_split
    if not chosen.any():
        values = ", ".join(sorted({str(value) for value in splits}))
        raise DataError(f"no row has {config.split_column} = {config.train_split!r}: the column holds {values}")
    return pairs.select(chosen)


def expand_paths(paths: Sequence[str]) -> list[Path]:
    """Files unchanged; folders as the sorted data files in them, or, without any, as class folders.

    Raises:
        DataError: a path does not exist, is of an unknown kind, or a folder holds no data.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        inside = [path] if path.is_file() else sorted(p for p in path.glob("*") if p.suffix in SUFFIXES)
        if not inside and path.is_dir() and read_class_folders(path).rows:
            inside = [path]
        if not inside:
            nothing = f"holds no {', '.join(SUFFIXES)} file and no class folders with pictures"
            raise DataError(f"data.path: {path}: {nothing if path.is_dir() else 'no such file or folder'}")
        if inside[0].suffix not in SUFFIXES and not inside[0].is_dir():
            raise DataError(f"data.path: {path}: unknown kind of file: use one of {', '.join(SUFFIXES)}")
        found += inside
    return found


def _load_table(path: Path, config: DataConfig) -> Pairs:
    table = read_arrow(path, config.encoding, config.delimiter)
    needed = [config.image_column, *config.text_columns]
    needed += [name for name in (config.group_column, config.split_column) if name is not None]
    for name in needed:
        if name not in table.column_names:
            raise DataError(f"{path}: column {name!r} isn't there: it has {', '.join(table.column_names)}")
    text_columns = [table.column(name).to_pylist() for name in config.text_columns]
    others = [
        name
        for name in table.column_names
        if name not in (config.image_column, *config.text_columns) or name == config.group_column
    ]
    folder = path if path.is_dir() else path.parent
    return Pairs(
        images=[
            _image(value, path, folder, row)
            for row, value in enumerate(table.column(config.image_column).to_pylist())
        ],
        texts=tuple(_texts(values) for values in zip(*text_columns, strict=True)),
        columns={name: _to_numpy(table.column(name)) for name in others},
        left_out=read_class_folders(path).left_out if path.is_dir() else (),
    )


def read_arrow(path: Path, encoding: str = "utf-8", delimiter: str | None = None) -> Any:
    """The Arrow table of one data file or of class folders; see `text_tables` for text files.

    Raises:
        DataError: it can't be read.
    """
    import pyarrow as pa
    from pyarrow import parquet

    if path.is_dir():
        return pa.Table.from_pylist(list(read_class_folders(path).rows))
    if path.suffix == ".jsonl":
        return read_json_lines(path, encoding)
    if path.suffix != ".parquet":
        return read_delimited(path, encoding, delimiter)
    try:
        return parquet.read_table(path)
    except (pa.ArrowException, OSError) as error:
        first_line = str(error).splitlines()[0]
        raise DataError(f"{path}: can't be read as {path.suffix[1:]}: {first_line}") from error


def _image(value: Any, path: Path, folder: Path, row: int) -> Path | bytes:
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes):
        return value
    if isinstance(value, str) and value:
        return _written_here(folder, value)
    if value in ("", None):
        raise DataError(f"{path}: row {row}: names no picture")
    raise DataError(f"{path}: row {row}: the picture is neither a path nor bytes but {type(value).__name__}")


def _written_here(folder: Path, value: str) -> Path:
    """A path as it stands in the table; one that Windows wrote, where only that leads to a file."""
    place = folder / value
    if "\\" in value and not place.exists():
        other = folder / value.replace("\\", "/")
        return other if other.exists() else place
    return place


def _texts(values: Sequence[Any]) -> tuple[str, ...]:
    flat: list[str] = []
    for value in values:
        parts = value if isinstance(value, list) else [value]
        flat += [text for part in parts if (text := _as_text(part)).strip()]
    return tuple(dict.fromkeys(flat))


def _to_numpy(column: Any) -> NDArray[Any]:
    """Every value as text; a missing one is the empty text."""
    return np.array([_as_text(value) for value in column.to_pylist()], dtype=object)


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)
