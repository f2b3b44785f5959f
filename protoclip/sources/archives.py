"""WebDataset shards: tar files whose members `key.jpg`, `key.txt` and `key.json` are one sample.

A tar is read through once, for its texts and for where its pictures lie; pictures are then read by their place.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from protoclip.contract.errors import DataError
from protoclip.contract.picture_folders import ALL_EXTENSIONS, Skipped

from .captions_beside import BESIDE, MAX_BYTES, BadCaption, caption_columns
from .files import DataFile
from .part import CHUNK_ROWS, IMAGE, OFFSET, SIZE, Chunk

NO_PICTURE_IN_SAMPLE = "a sample without a picture"


@dataclass
class _Sample:
    key: str
    member: tarfile.TarInfo | None = None
    beside: dict[str, bytes] = field(default_factory=dict)
    columns: dict[str, str | None] = field(default_factory=dict)


@dataclass
class ArchivePart:
    """One tar file; see `caption_columns` for its columns."""

    file: DataFile
    split: str | None = None
    archive: bool = True
    left_out: list[Skipped] = field(default_factory=list)
    pictures: tuple[DataFile, ...] = ()

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
        """As `Part.schema`; reads the file through."""
        return self._table.schema

    def chunks(self, columns: list[str]) -> Iterator[Chunk]:
        """As `Part.chunks`."""
        for batch in self._table.select(columns).to_batches(CHUNK_ROWS):
            yield Chunk(batch)

    @cached_property
    def _table(self) -> Any:
        import pyarrow as pa

        samples = list(self._samples())
        members = [sample.member for sample in samples if sample.member is not None]
        return pa.table(
            column_arrays([sample.columns for sample in samples])
            | {
                IMAGE: pa.array([member.name for member in members], pa.string()),
                OFFSET: pa.array([member.offset_data for member in members], pa.int64()),
                SIZE: pa.array([member.size for member in members], pa.int64()),
            }
        )

    def _samples(self) -> Iterator[_Sample]:
        """The samples with a picture; what else is there is left out by name."""
        current = _Sample("")
        try:
            with self.file.open() as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
                for member in tar:
                    if not member.isfile() or member.name.rpartition("/")[2].startswith("."):
                        continue
                    key, extension = split_key(member.name)
                    if key != current.key:
                        yield from self._finished(current)
                        current = _Sample(key)
                    self._add(current, member, extension, tar)
            yield from self._finished(current)
        except (tarfile.TarError, OSError, EOFError) as error:
            raise DataError(f"{self.name}: can't be read as a tar file: {error}") from error

    def _finished(self, sample: _Sample) -> Iterator[_Sample]:
        if sample.member is None:
            if sample.key:
                self._leave_out(sample.key, NO_PICTURE_IN_SAMPLE)
            return
        if sample.member.offset_data + sample.member.size > self.file.size:
            self._leave_out(sample.member.name, "the tar file ends before it")
            return
        try:
            sample.columns = caption_columns(sample.beside)
        except BadCaption as error:
            self._leave_out(sample.member.name, str(error))
            return
        sample.beside = {}
        yield sample

    def _add(self, sample: _Sample, member: tarfile.TarInfo, extension: str, tar: tarfile.TarFile) -> None:
        if f".{extension}" in ALL_EXTENSIONS:
            if sample.member is None:
                sample.member = member
            else:
                self._leave_out(member.name, "a second picture of its sample")
        elif extension in BESIDE:
            opened = tar.extractfile(member)
            sample.beside[extension] = b"" if opened is None else opened.read(MAX_BYTES + 1)

    def _leave_out(self, name: str, reason: str) -> None:
        self.left_out.append(Skipped(f"{self.name}: {name}", reason))


def split_key(name: str) -> tuple[str, str]:
    """A file's sample and its extension: WebDataset cuts at the first dot of the last part of the path."""
    folder, slash, last = name.rpartition("/")
    stem, _, extension = last.partition(".")
    return folder + slash + stem, extension.lower()


def column_arrays(rows: list[dict[str, str | None]]) -> dict[str, Any]:
    """The columns of rows that need not have the same fields; a missing one is null."""
    import pyarrow as pa

    names = list(dict.fromkeys(name for row in rows for name in row))
    return {name: pa.array([row.get(name) for row in rows], pa.string()) for name in names}
