"""A search index: vectors of one model, each with id and metadata. `Q` queries, `N` entries, `D` embedding.

Folder: `vectors.faiss`, `metadata.jsonl` (entries by key), `index.json` (IndexRecord).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import ArrayLike

from protoclip.client.results import Hit
from protoclip.client.transport import Matrix, Vector
from protoclip.contract.errors import ConfigError, IndexFileError
from protoclip.contract.files import atomic_path, sha256_file

from .building import BuildProgress, fill_index, index_contents
from .entries import Entry, make_entries, read_entries, write_entries
from .faiss_store import FaissStore
from .record import (
    FINGERPRINT,
    METADATA_FILE,
    VECTORS_FILE,
    IndexRecord,
    artifact_at,
    check_place,
    read_record,
)
from .store import VectorStore, unit_rows

if TYPE_CHECKING:
    from protoclip.client import Client, ServedModel
    from protoclip.client.inputs import ImageItem
    from protoclip.contract.picture_folders import Skipped
    from protoclip.sources import ReadOptions

    from .sources import Metadata


class Index:
    """Vectors made by one model, with exact search by cosine. Made by `build`, `create` or `open`.

    It is in memory only until `save`. Threads may search it concurrently, but not while one adds.

    Attributes:
        path: the folder that it was opened from, and that `save` writes.
        model: name of the model.
        fingerprint: of the model; only vectors of the same model can be compared.
        dim: D.
        skipped: what `build` left out, and why; empty after `open`.
        artifact: folder of the artifact that made the vectors in the client's own process; None: a server did.
    """

    def __init__(self, path: Path, model: str, fingerprint: str, dim: int, store: VectorStore) -> None:
        self.path = path
        self.model = model
        self.fingerprint = fingerprint
        self.dim = dim
        self.skipped: tuple[Skipped, ...] = ()
        self.artifact: str | None = None
        self._store = store
        self._entries: list[Entry] = []
        self._ids: set[str] = set()

    def __len__(self) -> int:
        return len(self._entries)

    @classmethod
    def create(cls, path: str | Path, fingerprint: str, dim: int, *, model: str = "") -> Index:
        """An empty index for vectors of the model with `fingerprint`; nothing is written before `save`.

        Raises:
            ConfigError: no fingerprint, a `dim` below 1, or faiss isn't installed.
            IndexFileError: at `path` there is something that isn't an index.
        """
        if not re.fullmatch(FINGERPRINT, fingerprint):
            raise ConfigError(
                f"fingerprint={fingerprint!r} must be 6 to 64 hexadecimal digits, as in client.model"
            )
        if dim < 1:
            raise ConfigError(f"dim={dim} must be at least 1")
        check_place(Path(path))
        return cls(Path(path), model, fingerprint, dim, FaissStore.create(dim))

    @classmethod
    def open(cls, path: str | Path, client: Client | None = None) -> Index:
        """Reads an index, checks that its files are intact, and with `client`, that they are of the same model.

        The hashes detect damage, not manipulation: do not open an index from an untrusted source.

        Raises:
            IndexFileError: no index, a damaged one, or one made with another model than the client's.
            ConfigError: faiss isn't installed.
        """
        path = Path(path)
        record = read_record(path)
        store = FaissStore.load(path / VECTORS_FILE, record.dim, record.count, record.faiss_type)
        index = cls(path, record.model, record.fingerprint, record.dim, store)
        index.artifact = record.artifact
        index._entries = read_entries(path / METADATA_FILE, record.count)
        index._ids = {entry.id for entry in index._entries}
        if client is not None:
            index.check_model(client.model)
        return index

    @classmethod
    def build(
        cls,
        path: str | Path,
        client: Client,
        images: str | Path | ReadOptions | Iterable[ImageItem] | None = None,
        metadata: Metadata | None = None,
        *,
        texts: Iterable[str] | None = None,
        progress: Callable[[BuildProgress], None] | None = None,
    ) -> Index:
        """Embeds pictures, or texts, and saves an index of them at `path`. An existing index there is replaced.

        Bad items, files that are not pictures, and metadata without a picture are left out; they are listed in
        `skipped` of the returned index, and a SkippedWarning gives their count.

        Args:
            images: a folder, whose pictures get their path below it as id; a table, WebDataset shards, an
                address of an object store, or `ReadOptions` for these, whose other columns are metadata and
                whose pictures have the name that stands there as id; or several of what `Client.embed_images`
                takes, with the path, or else the position, as id.
            metadata: a table whose column of pictures holds ids, or a mapping from ids. Pictures that aren't
                in it have none.
            texts: instead of `images`; the position is the id, and the text is stored as metadata `text`.
            progress: called after each batch.

        Raises:
            ConfigError: not exactly one of `images` and `texts`, an id twice, or another wrong argument.
            DataError: no good item, a missing file or column, or metadata that match no picture.
            ServerError: as the client raises it.
            IndexFileError: at `path` there is something that isn't an index.
        """
        check_place(Path(path))
        contents = index_contents(images, texts, metadata)
        model = client.model
        index = cls.create(path, model.fingerprint, model.embedding_dim, model=model.name)
        index.artifact = artifact_at(client.url)
        fill_index(index, client, contents, progress)
        return index

    def add(
        self, vectors: ArrayLike, ids: Sequence[str], metadata: Sequence[Mapping[str, Any]] | None = None
    ) -> None:
        """Adds `vectors` `[n, D]` (normalised here), each with an id and JSON metadata: all of them or none.

        Raises:
            ConfigError: another shape, NaN, zeros, other numbers of ids or metadata, an id twice or already in
                the index, or metadata that JSON can't hold.
        """
        rows = unit_rows(vectors, self.dim) if np.size(vectors) else np.zeros((0, self.dim), np.float32)
        entries = make_entries(ids, metadata, len(rows))
        new = {entry.id for entry in entries}
        if len(new) < len(entries) or new & self._ids:
            raise ConfigError(f"id {self._first_repeated(entries)!r} is there twice: every entry needs its own")
        self._store.add(np.arange(len(self), len(self) + len(rows), dtype=np.int64), rows)
        self._entries += entries
        self._ids |= new

    @overload
    def search(self, vectors: Vector, k: int = 10) -> list[Hit]: ...
    @overload
    def search(self, vectors: Matrix, k: int = 10) -> list[list[Hit]]: ...
    @overload
    def search(self, vectors: ArrayLike, k: int = 10) -> list[Hit] | list[list[Hit]]: ...
    def search(self, vectors: ArrayLike, k: int = 10) -> list[Hit] | list[list[Hit]]:
        """The `k` entries with the largest cosine, best first.

        Args:
            vectors: `[D]` gives list[Hit], and `[Q, D]` list[list[Hit]], a list for each row. They need not be
                normalised.

        Raises:
            ConfigError: `k` below 1 or above the number of entries, another shape, NaN, or zeros.
            IndexFileError: the index is empty.
        """
        if not self._entries:
            raise IndexFileError(f"{self.path}: the index is empty: add vectors first")
        if not 1 <= k <= len(self):
            raise ConfigError(f"k={k} doesn't fit: the index holds {len(self)} entries: use 1 to {len(self)}")
        scores, keys = self._store.search(unit_rows(vectors, self.dim), k)
        found = [[self._hit(*pair) for pair in zip(*row, strict=True)] for row in zip(scores, keys, strict=True)]
        return found[0] if np.ndim(vectors) == 1 else found

    def check_model(self, model: ServedModel) -> None:
        """Checks that vectors of `model` can be compared with those of this index.

        Raises:
            IndexFileError: it is another model.
        """
        if model.fingerprint != self.fingerprint:
            raise IndexFileError(
                f"{self.path}: made with {self.model or 'the model'} {self.fingerprint}, but the client uses "
                f"{model.name} {model.fingerprint}: build the index again, or use its model (model=, --model)"
            )

    def save(self) -> None:
        """Writes the index to `path` atomically; on any error an older one there stays unchanged.

        Raises:
            IndexFileError: at `path` there is something that isn't an index.
            ProtoclipError: `path` can't be written.
        """
        check_place(self.path)
        with atomic_path(self.path) as folder:
            folder.mkdir()
            self._store.save(folder / VECTORS_FILE)
            write_entries(folder / METADATA_FILE, self._entries)
            record = IndexRecord(
                model=self.model,
                fingerprint=self.fingerprint,
                dim=self.dim,
                count=len(self),
                faiss_type=self._store.faiss_type,
                vectors_sha256=sha256_file(folder / VECTORS_FILE),
                metadata_sha256=sha256_file(folder / METADATA_FILE),
                artifact=self.artifact,
            )
            record.save(folder)

    def _hit(self, score: float, key: int) -> Hit:
        entry = self._entries[key]
        return Hit(entry.id, float(score), entry.metadata)

    def _first_repeated(self, entries: Sequence[Entry]) -> str:
        seen = set(self._ids)
        for entry in entries:
            if entry.id in seen:
                return entry.id
            seen.add(entry.id)
        raise AssertionError("one of them is repeated")
