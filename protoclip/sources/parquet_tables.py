"""Parquet as it stands: pictures as bytes, as paths, or as `{bytes, path}`; texts or lists of texts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from protoclip.contract.errors import DataError
from protoclip.contract.picture_folders import Skipped

from .arrow_texts import check_utf8, is_bytes, plain, plain_type
from .files import DataFile
from .part import CHUNK_ROWS, Chunk

_BYTES_ROWS = 1_000


@dataclass
class ParquetPart:
    """One file; a million pictures in it are never in memory at once."""

    file: DataFile
    split: str | None = None
    archive: bool = False
    left_out: list[Skipped] = field(default_factory=list)
    pictures: tuple[DataFile, ...] = ()
    source: int = 0

    def __post_init__(self) -> None:
        self.name, self.folder = str(self.file), self.file.folder

    @property
    def num_bytes(self) -> int:
        """As `Part.num_bytes`."""
        return self.file.size

    @property
    def files(self) -> list[DataFile]:
        """As `Part.files`."""
        return [self.file]

    def schema(self) -> Any:
        """As `Part.schema`, without dictionaries, views and extensions, and with times as texts.

        DataError also where two columns have one name.
        """
        import pyarrow as pa

        stored = self._open(lambda found: found.schema_arrow)
        twice = next((name for name in stored.names if stored.names.count(name) > 1), None)
        if twice is not None:
            raise DataError(f"{self.name}: two columns are called {twice!r}: rename one of them")
        return pa.schema([(field.name, plain_type(field.type)) for field in stored])

    def chunks(self, columns: list[str]) -> Iterator[Chunk]:
        """As `Part.chunks`; DataError also where a text is not UTF-8."""
        import pyarrow as pa

        first_row = 0
        stored = any(_holds_bytes(kind.type) for kind in self.schema() if kind.name in columns)
        rows = _BYTES_ROWS if stored else CHUNK_ROWS
        try:
            with self.file.open() as stream, _parquet(stream) as found:
                for batch in found.iter_batches(rows, columns=columns, use_threads=False):
                    yield Chunk(self._checked(batch.select(columns), first_row))
                    first_row += batch.num_rows
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(error) from error

    def _checked(self, batch: Any, first_row: int) -> Any:
        import pyarrow as pa

        arrays = []
        for name, array in zip(batch.schema.names, map(plain, batch.columns), strict=True):
            check_utf8(array, name, lambda row: f"{self.name}: row {first_row + row}")
            arrays.append(array)
        return pa.record_batch(arrays, batch.schema.names)

    def _open(self, read: Any) -> Any:
        import pyarrow as pa

        try:
            with self.file.open() as stream, _parquet(stream) as found:
                return read(found)
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> DataError:
        return DataError(f"{self.name}: can't be read as parquet: {str(error).splitlines()[0]}")


def _parquet(stream: Any) -> Any:
    from pyarrow import parquet

    return parquet.ParquetFile(stream)


def _holds_bytes(kind: Any) -> bool:
    from pyarrow import types

    if types.is_struct(kind):
        return any(_holds_bytes(kind.field(place).type) for place in range(kind.num_fields))
    return is_bytes(plain_type(kind))
