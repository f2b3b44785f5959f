"""A table beside folders that are called like splits: a row's split is the folder that its picture lies in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from protoclip.contract.errors import ConfigError
from protoclip.contract.picture_folders import ALL_EXTENSIONS, Skipped

from .files import DataFile
from .names import IMAGE_NAMES, find_column, split_of_folder
from .part import SPLIT, Chunk, Part


def splits_of_pictures(names: Sequence[str]) -> set[str]:
    """The top folders in which all pictures below lie, where each is called like a split; else none."""
    tops = {
        name.partition("/")[0] for name in names if name.lower().endswith(tuple(ALL_EXTENSIONS)) and "/" in name
    }
    return tops if tops and all(split_of_folder(top) for top in tops) else set()


@dataclass
class SplitFoldersPart:
    """The rows of `table` with the column `split`; null where a picture lies in none of `found`."""

    table: Part
    image: str
    found: frozenset[str]

    def __post_init__(self) -> None:
        self.name, self.folder, self.archive = self.table.name, self.table.folder, False
        self.split: str | None = None
        self.left_out: list[Skipped] = self.table.left_out
        self.pictures: tuple[DataFile, ...] = self.table.pictures
        self.source = self.table.source

    @property
    def num_bytes(self) -> int:
        """As `Part.num_bytes`."""
        return self.table.num_bytes

    @property
    def files(self) -> list[DataFile]:
        """As `Part.files`."""
        return self.table.files

    def schema(self) -> Any:
        """As `Part.schema`."""
        import pyarrow as pa

        return self.table.schema().append(pa.field(SPLIT, pa.string()))

    def splits(self) -> set[str]:
        """The splits that the folders are called like."""
        return set(self.found)

    def chunks(self, columns: list[str]) -> Iterator[Chunk]:
        """As `Part.chunks`."""
        import pyarrow as pa

        stored = list(dict.fromkeys([*(name for name in columns if name != SPLIT), self.image]))
        for chunk in self.table.chunks(stored):
            names = chunk.batch.column(self.image).to_pylist()
            splits = pa.array([self._split_of(name) for name in names], pa.string())
            arrays = [splits if name == SPLIT else chunk.batch.column(name) for name in columns]
            yield Chunk(pa.record_batch(arrays, columns), chunk.lines)

    def _split_of(self, name: str | None) -> str | None:
        top = (name or "").replace("\\", "/").removeprefix("./").partition("/")[0]
        return top if top in self.found else None


def with_splits(table: Part, names: Sequence[str], image: str | None) -> Part:
    """A table whose pictures lie in folders called like splits, with these; any other table as it is.

    Args:
        names: of all files below the table's folder.
        image: the column of pictures; None: the one that is called like it.
    """
    from pyarrow import types

    found = splits_of_pictures(names)
    schema = table.schema() if len(found) > 1 and table.split is None else None
    if schema is None or SPLIT in schema.names:
        return table
    try:
        column = image or find_column(schema.names, IMAGE_NAMES, "image_column")
    except ConfigError:
        return table
    if column not in schema.names or not types.is_string(schema.field(column).type):
        return table
    return SplitFoldersPart(table, column, frozenset(found))
