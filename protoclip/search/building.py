"""Building an index: items through the client, vectors into the index, in one pass with bounded memory."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from protoclip.client import Client, Embeddings
from protoclip.client.inputs import ImageItem
from protoclip.contract.errors import ConfigError, DataError
from protoclip.contract.picture_folders import Skipped
from protoclip.sources import ReadOptions

from .sources import Metadata, Source, SourceItem, image_source, read_metadata, text_source


class SkippedWarning(UserWarning):
    """Some items were left out of an index."""


@dataclass(frozen=True)
class BuildProgress:
    """Progress of a build.

    Attributes:
        done: items that were embedded or found to be bad.
        skipped: how many of them were bad.
        total: number of items; None if unknown.
    """

    done: int
    skipped: int
    total: int | None


class Fillable(Protocol):
    """What a build needs of an index; see `Index`."""

    path: Path
    skipped: tuple[Skipped, ...]

    def __len__(self) -> int: ...

    def add(
        self, vectors: ArrayLike, ids: Sequence[str], metadata: Sequence[Mapping[str, Any]] | None = None
    ) -> None: ...

    def save(self) -> None: ...


@dataclass(frozen=True)
class Contents:
    """What an index is built from: items of one kind, and more metadata by their ids."""

    source: Source
    are_images: bool
    metadata: Mapping[str, Mapping[str, Any]]


def index_contents(
    images: str | Path | ReadOptions | Iterable[ImageItem] | None,
    texts: Iterable[str] | None,
    metadata: Metadata | None,
) -> Contents:
    """The arguments of `Index.build`, read.

    Raises:
        ConfigError: not exactly one of `images` and `texts`, or another wrong argument.
        DataError: a folder without pictures, or a table that can't be read.
    """
    if (images is None) == (texts is None):
        raise ConfigError("Index.build needs either images= or texts=")
    source = image_source(images) if images is not None else text_source(texts or ())
    return Contents(source, images is not None, read_metadata(metadata) if metadata is not None else {})


def fill_index(
    index: Fillable, client: Client, contents: Contents, progress: Callable[[BuildProgress], None] | None
) -> None:
    """Embeds the contents into an empty index and saves it; see `Index.build`."""
    builder = _Builder(index, contents.source, contents.metadata, progress)
    builder.run(client.stream_images if contents.are_images else client.stream_texts)
    builder.finish()


class _Builder:
    def __init__(
        self,
        index: Fillable,
        source: Source,
        metadata: Mapping[str, Mapping[str, Any]],
        progress: Callable[[BuildProgress], None] | None,
    ) -> None:
        self._index = index
        self._source = source
        self._metadata = metadata
        self._used: set[str] = set()
        self._progress = progress
        self._skipped: list[Skipped] = []
        self._waiting: deque[SourceItem] = deque()
        self._done = 0

    def run(self, stream: Callable[[Iterable[Any]], Iterator[Embeddings]]) -> None:
        for part in stream(self._feed()):
            self._add(part)
            if self._progress is not None:
                self._progress(BuildProgress(self._done, len(self._skipped), self._source.total))

    def finish(self) -> None:
        """Saves, and warns about what was left out."""
        unused = [name for name in self._metadata if name not in self._used]
        if self._metadata and not self._used:
            raise DataError(f"metadata: none fits a picture: they are for ids like {unused[0]!r}")
        if not len(self._index):
            first = f", the first one because of: {self._skipped[0].reason}" if self._skipped else ""
            raise DataError(f"{self._index.path}: there is nothing to index: {self._done} items were bad{first}")
        missing = [Skipped(name, "metadata without a picture") for name in unused]
        self._index.skipped = (*self._source.skipped, *self._skipped, *missing)
        self._index.save()
        if self._index.skipped:
            first_one = self._index.skipped[0]
            message = f"{self._index.path}: {len(self._index.skipped)} items were left out, among them "
            warnings.warn(f"{message}{first_one.name} ({first_one.reason})", SkippedWarning, stacklevel=4)

    def _feed(self) -> Iterator[Any]:
        for entry in self._source.items:
            # The picture itself is not kept here: the running batch holds it.
            self._waiting.append(
                SourceItem(entry.id, None, {**entry.metadata, **self._metadata.get(entry.id, {})}, entry.place)
            )
            yield entry.item

    def _add(self, part: Embeddings) -> None:
        entries = [self._waiting.popleft() for _ in range(len(part.vectors))]
        reasons = {error.position - part.start: error.reason for error in part.errors}
        self._skipped += [
            Skipped(entries[row].place or entries[row].id, reason) for row, reason in reasons.items()
        ]
        good = np.array([row for row in range(len(entries)) if row not in reasons], dtype=np.int64)
        ids = [entries[row].id for row in good]
        self._index.add(part.vectors[good], ids, [entries[row].metadata for row in good])
        self._used.update(entry.id for entry in entries if entry.id in self._metadata)
        self._done += len(entries)
