"""Building an index: items through the client, vectors into a draft batch by batch, and the draft in its place."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from protoclip.client import Client, Embeddings
from protoclip.client.inputs import ImageItem
from protoclip.contract.errors import ConfigError, DataError, IndexFileError
from protoclip.contract.picture_folders import Skipped
from protoclip.sources import ReadOptions

from .draft import Draft, num_kept
from .embedded_rows import bad_rows
from .entries import Label, make_label
from .places import BUILDING_FILE, held_folder, remove_database
from .source_record import Record
from .sources import Metadata, SkippedWarning, Source, SourceItem, image_source, read_metadata, text_source
from .vectors import unit_rows


@dataclass(frozen=True)
class BuildProgress:
    """Progress of a build.

    Attributes:
        done: items that were embedded or found to be bad.
        skipped: how many of them were bad.
        total: number of items; None if unknown.
        resumed: how many an earlier build that was interrupted had embedded.
    """

    done: int
    skipped: int
    total: int | None
    resumed: int = 0


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


def build_index(
    path: Path,
    client: Client,
    contents: Contents,
    progress: Callable[[BuildProgress], None] | None,
    *,
    resume: bool,
) -> None:
    """Embeds the contents into an index at `path`, or what is missing of them; see `Index.build`."""
    model = client.model
    with held_folder(path):
        if not resume:
            remove_database(path / BUILDING_FILE)
        made_by = (model.name, model.fingerprint, model.embedding_dim, artifact_at(client.url))
        draft = Draft(path, *made_by)
        try:
            builder = _Builder(path, draft, contents, progress, model.fingerprint)
            builder.run(client.stream_images if contents.are_images else client.stream_texts)
            builder.finish()
        except BaseException:
            draft.close()
            if not num_kept(path):
                draft.discard()
            raise


def artifact_at(url: str) -> str | None:
    """The absolute path of the artifact's folder that a client's `url` is; None for a server's address.

    None as well for a path that can't be printed: JSON holds no bytes that aren't text.
    """
    if "://" in url or not Path(url).is_dir():
        return None
    path = str(Path(url).resolve())
    return path if path.isprintable() else None


class _Builder:
    def __init__(
        self,
        path: Path,
        draft: Draft,
        contents: Contents,
        progress: Callable[[BuildProgress], None] | None,
        fingerprint: str,
    ) -> None:
        self._fingerprint = fingerprint
        self._path = path
        self._draft = draft
        self._source = contents.source
        self._metadata = contents.metadata
        self._are_images = contents.are_images
        self._used: set[str] = set()
        self._progress = progress
        self._skipped: list[Skipped] = []
        self._seen: set[bytes] = set()
        self._waiting: deque[tuple[SourceItem, Label]] = deque()
        self._done = 0
        self._resumed = 0

    def run(self, stream: Callable[[Iterable[Any]], Iterator[Embeddings]]) -> None:
        for part in stream(self._feed()):
            self._add(part)
            self._tell()
        if self._resumed == self._done:
            self._tell()

    def finish(self) -> None:
        """Puts the index in its place, and warns about what was left out."""
        self._draft.keep_only(self._seen)
        unused = [name for name in self._metadata if name not in self._used]
        if self._metadata and not self._used:
            raise DataError(f"metadata: none fits a picture: they are for ids like {unused[0]!r}")
        if not len(self._draft):
            first = f", the first one because of: {self._skipped[0].reason}" if self._skipped else ""
            raise DataError(f"{self._path}: there is nothing to index: {self._done} items were bad{first}")
        missing = [Skipped(name, "metadata without a picture") for name in unused]
        skipped = (*self._source.skipped, *self._skipped, *missing)
        self._draft.finish(skipped, self._record())
        if skipped:
            message = f"{self._path}: {len(skipped)} items were left out, among them "
            warnings.warn(f"{message}{skipped[0].name} ({skipped[0].reason})", SkippedWarning, stacklevel=4)

    def _record(self) -> Record | None:
        """What to remember of the source; a text that metadata replace is none that can be embedded again."""
        if not self._are_images and any("text" in more for more in self._metadata.values()):
            return None
        return self._source.record()

    def _tell(self) -> None:
        if self._progress is not None:
            self._progress(BuildProgress(self._done, len(self._skipped), self._source.total, self._resumed))

    def _feed(self) -> Iterator[Any]:
        """The items to embed: not those whose entry is of the same content, and none that can't have one."""
        for item in self._source.items:
            label = self._label(item)
            if label is None:
                self._take(item.id)
                self._done += 1
                continue
            stored = self._draft.stored(label.id)
            if stored is None or item.content is None or stored[1] != item.content:
                # The picture itself is not kept here: the running batch holds it.
                self._waiting.append((SourceItem(item.id, None, {}, item.place, item.content), label))
                yield item.item
                continue
            if stored[0] != label.metadata:
                self._draft.change(label)
            self._take(item.id)
            self._done += 1
            self._resumed += 1

    def _label(self, item: SourceItem) -> Label | None:
        reason = "its id came before: only the first item of an id is kept"
        try:
            label = make_label(item.id, {**item.metadata, **self._metadata.get(item.id, {})})
            if label.id not in self._seen:
                self._seen.add(label.id)
                return label
        except ConfigError as error:
            reason = str(error)
        self._skipped.append(Skipped(item.place or item.id, reason))
        return None

    def _add(self, part: Embeddings) -> None:
        if part.fingerprint != self._fingerprint:
            raise IndexFileError(
                f"{self._path}: the client went over from model {self._fingerprint} to {part.fingerprint} as the "
                "build began: build again"
            )
        entries = [self._waiting.popleft() for _ in range(len(part.vectors))]
        vectors, reasons = np.asarray(part.vectors), bad_rows(part)
        self._skipped += [
            Skipped(entries[row][0].place or entries[row][0].id, reason) for row, reason in reasons.items()
        ]
        good = [row for row in range(len(entries)) if row not in reasons]
        self._draft.replace(
            [label.id for _, label in entries],
            [entries[row][1] for row in good],
            [entries[row][0].content for row in good],
            unit_rows(vectors[good], vectors.shape[1]),
        )
        for item, _ in entries:
            self._take(item.id)
        self._done += len(entries)

    def _take(self, name: str) -> None:
        if name in self._metadata:
            self._used.add(name)
