"""Reads a tar through: which of its members are one sample, their texts, and where each picture lies."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO

from protoclip.contract.errors import DataError
from protoclip.contract.picture_files import HEAD_BYTES
from protoclip.contract.picture_folders import ALL_EXTENSIONS, Skipped, reason_to_skip

from .captions_beside import BESIDE, MAX_BYTES, BadCaption, caption_columns
from .files import DataFile, name_to_text
from .listing import is_hidden
from .part import IMAGE, OFFSET, SIZE
from .row_index import FoundRows
from .sidecar_names import Row, column_arrays, split_key

_GZIP = b"\x1f\x8b"
_BLOCK = 512


@dataclass
class _Sample:
    key: str
    picture: tarfile.TarInfo | None = None
    beside: dict[str, bytes] = field(default_factory=dict)
    columns: Row = field(default_factory=dict)


def index_tar(file: DataFile) -> FoundRows:
    """The samples with a picture as rows: `image`, its place, and the columns of `caption_columns`.

    Left out by name are samples without a picture or with a caption that can't be read, links, and what follows a
    damaged header or the end of a file that was cut short.

    Raises:
        DataError: it can't be read, or is compressed.
    """
    import pyarrow as pa

    index = _TarIndex(file)
    samples = list(index.samples())
    members = [sample.picture for sample in samples if sample.picture is not None]
    places = {
        IMAGE: pa.array([name_to_text(member.name) for member in members], pa.string()),
        OFFSET: pa.array([member.offset_data for member in members], pa.int64()),
        SIZE: pa.array([member.size for member in members], pa.int64()),
    }
    table = pa.table(column_arrays([sample.columns for sample in samples]) | places)
    return FoundRows(table, tuple(index.left_out))


class _TarIndex:
    def __init__(self, file: DataFile) -> None:
        self._file = file
        self.left_out: list[Skipped] = []

    def samples(self) -> Iterator[_Sample]:
        """The samples with a picture, in their order."""
        with self._file.open() as stream:
            if stream.read(2) == _GZIP:
                raise DataError(
                    f"{self._file}: is compressed, so that no picture can be read by its place: unpack it with "
                    "gunzip"
                )
            stream.seek(0)
            try:
                yield from self._samples(stream)
            except OSError as error:
                raise DataError(f"{self._file}: can't be read: {error.strerror or error}") from error

    def _samples(self, stream: IO[bytes]) -> Iterator[_Sample]:
        current = _Sample("")
        for member, tar in self._members(stream):
            if member.isdir() or is_hidden(member.name):
                continue
            if not member.isreg() or member.issparse():
                self._leave_out(member.name, "a link, a device or a sparse file in a tar")
                continue
            key, extension = split_key(member.name)
            if key != current.key:
                yield from self._finished(current)
                current = _Sample(key)
            self._add(current, member, extension, tar)
        yield from self._finished(current)

    def _members(self, stream: IO[bytes]) -> Iterator[tuple[tarfile.TarInfo, tarfile.TarFile]]:
        """All members up to the end; says where that is no proper end: tarfile takes a damaged header for one."""
        if not self._file.size:
            self.left_out.append(Skipped(str(self._file), "an empty file"))
            return
        try:
            with tarfile.open(fileobj=stream, mode="r:") as tar:
                for member in tar:
                    yield member, tar
                end = tar.offset
        except EOFError:
            end = self._file.size
        except tarfile.TarError as error:
            if "unexpected end of data" not in str(error):
                raise DataError(f"{self._file}: can't be read as a tar file: {error}") from error
            end = self._file.size
        stream.seek(end)
        block = stream.read(_BLOCK)
        if len(block) < _BLOCK:
            self._leave_out(f"byte {end}", "the tar ends without its end mark: it may have been cut short")
        elif block.strip(b"\0"):
            self._leave_out(f"byte {end}", "a damaged header in a tar: nothing after it is read")

    def _finished(self, sample: _Sample) -> Iterator[_Sample]:
        if sample.picture is None:
            if sample.key:
                self._leave_out(sample.key, "a sample without a picture")
            return
        if sample.picture.offset_data + sample.picture.size > self._file.size:
            self._leave_out(sample.picture.name, "the tar ends before it does")
            return
        try:
            sample.columns = caption_columns(sample.beside)
        except BadCaption as error:
            self._leave_out(sample.picture.name, str(error))
            return
        sample.beside = {}
        yield sample

    def _add(self, sample: _Sample, member: tarfile.TarInfo, extension: str, tar: tarfile.TarFile) -> None:
        if extension in BESIDE:
            sample.beside[extension] = self._content(member, tar, MAX_BYTES + 1)
            return
        suffix = f".{extension}"
        if suffix not in ALL_EXTENSIONS:
            head = self._content(member, tar, HEAD_BYTES)
            if reason_to_skip(suffix, lambda: head, decoded_here=False) is not None:
                return
        if sample.picture is None:
            sample.picture = member
        else:
            self._leave_out(member.name, "a second picture of its sample")

    @staticmethod
    def _content(member: tarfile.TarInfo, tar: tarfile.TarFile, size: int) -> bytes:
        opened = tar.extractfile(member)
        try:
            return b"" if opened is None else opened.read(size)
        except tarfile.ReadError:
            return b""

    def _leave_out(self, name: str, reason: str) -> None:
        self.left_out.append(Skipped(f"{self._file}: {name}", reason))
