"""What a source is made of: parts, each of which gives its rows in chunks of Arrow. `n` rows in a chunk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from protoclip.contract.picture_folders import Skipped

from .files import DataFile

CHUNK_ROWS = 50_000
IMAGE, TEXT, CLASS, SPLIT = "image", "text", "class", "split"
# Columns by which an archive says where in it a picture lies.
OFFSET, SIZE = "picture offset", "picture size"


@dataclass(frozen=True)
class Chunk:
    """Rows as a `pyarrow.RecordBatch`; `lines` says where each stands in its file, None: by its number.

    `by_picture`: they were found, and stand in no file; a row is called what its picture is called.
    `refused`: rows that can't be used, with the reasons; their values are null.
    """

    batch: Any
    lines: list[int] | None = None
    by_picture: bool = False
    refused: dict[int, str] = field(default_factory=dict)


class Part(Protocol):
    """One table, folder or archive.

    Attributes:
        name: for messages.
        folder: what the pictures' names are relative to.
        archive: whether the pictures lie in the file `name` itself.
        split: the part of the data that its name says it is, if any.
        left_out: what was passed over, complete once all chunks were read.
        pictures: those that lie in its folder, of which its rows are to name each.
        source: which of the paths it is of, from 0.
        num_bytes: about how large its rows are on disk.
        files: all that it depends on.
    """

    name: str
    folder: str
    archive: bool
    split: str | None
    left_out: list[Skipped]
    pictures: tuple[DataFile, ...]
    source: int

    @property
    def num_bytes(self) -> int: ...
    @property
    def files(self) -> list[DataFile]: ...

    def schema(self) -> Any:
        """The `pyarrow.Schema` of all chunks; DataError as `chunks`."""

    def chunks(self, columns: list[str]) -> Iterator[Chunk]:
        """The rows in their order, with these columns; DataError where it can't be read, naming the place."""
