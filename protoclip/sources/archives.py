"""WebDataset shards: tar files whose members `key.jpg`, `key.txt` and `key.json` are one sample.

A tar is read through once, for its texts and for where its pictures lie; pictures are then read by their place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from protoclip.contract.picture_folders import Skipped

from .files import DataFile
from .part import CHUNK_ROWS, TEXT, Chunk
from .row_index import FoundRows, kept_rows
from .sidecar_names import unified_schema, with_schema
from .tar_index import index_tar


@dataclass
class ArchivePart:
    """One tar file; see `caption_columns` for its columns.

    Its columns are those of all `shards` together, since one shard need not have what the next one has.
    """

    file: DataFile
    split: str | None = None
    archive: bool = True
    left_out: list[Skipped] = field(default_factory=list)
    pictures: tuple[DataFile, ...] = ()
    source: int = 0
    cache_dir: Path | None = None
    shards: Sequence[ArchivePart] = ()

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
        """As `Part.schema`; reads all shards through."""
        first = self.shards[0] if self.shards else self
        return first._schema_of_shards

    def chunks(self, columns: list[str]) -> Iterator[Chunk]:
        """As `Part.chunks`."""
        import pyarrow as pa

        schema = self.schema()
        wanted = pa.schema([schema.field(name) for name in columns])
        for batch in with_schema(self._found.table, wanted).to_batches(CHUNK_ROWS):
            yield Chunk(batch, by_picture=True)

    @cached_property
    def _found(self) -> FoundRows:
        found = kept_rows("tar", [self.file], self.cache_dir, lambda: index_tar(self.file))
        self.left_out.extend(found.left_out)
        return found

    @cached_property
    def _schema_of_shards(self) -> Any:
        import pyarrow as pa

        tables = [shard._found.table for shard in self.shards or [self]]
        schema = unified_schema([table.schema for table in tables])
        # What is wrong with a shard in which no sample is whole is not that a column is missing.
        return schema if any(table.num_rows for table in tables) else schema.append(pa.field(TEXT, pa.string()))
