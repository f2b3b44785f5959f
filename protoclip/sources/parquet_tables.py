"""Parquet as it stands: pictures as bytes, as paths, or as `{bytes, path}`; texts or lists of texts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from protoclip.contract.errors import DataError
from protoclip.contract.picture_folders import Skipped

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
        """As `Part.schema`."""
        return self._open(lambda found: found.schema_arrow.remove_metadata())

    def chunks(self, columns: list[str]) -> Iterator[Chunk]:
        """As `Part.chunks`."""
        import pyarrow as pa

        stored = any(_holds_bytes(kind.type) for kind in self.schema() if kind.name in columns)
        rows = _BYTES_ROWS if stored else CHUNK_ROWS
        try:
            with self.file.open() as stream, _parquet(stream) as found:
                for batch in found.iter_batches(rows, columns=columns, use_threads=False):
                    yield Chunk(batch.select(columns))
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(error) from error

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
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind))
