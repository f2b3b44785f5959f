"""A search index: vectors of one model, each with id and metadata. What is in its folder: `places`.

`Q` queries, `n` new entries, `N` all, `D` embedding.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, overload

import numpy as np
from numpy.typing import ArrayLike

from protoclip.client.model_vectors import vectors_model
from protoclip.client.results import Embeddings, Hit
from protoclip.client.transport import Matrix, Vector
from protoclip.contract.errors import ConfigError, IndexFileError, ProtoclipError
from protoclip.contract.picture_folders import Skipped

from . import tables, upkeep
from .building import BuildProgress, build_index, index_contents
from .database import Database, TemporaryDatabase
from .entries import Entry, Label, id_bytes, id_text, make_labels
from .filters import Where, condition_of
from .opening import convert, first_facts, new_database, opened
from .places import check_model_facts, check_place, is_old
from .searching import Wanted, find
from .vectors import Array, unit_rows
from .view import SegmentWarning, View, load_view
from .writer_lock import WriterLock

if TYPE_CHECKING:
    import sqlite3

    from protoclip.client import Client, ServedModel
    from protoclip.client.inputs import ImageItem
    from protoclip.sources import ReadOptions

    from .sources import Metadata


@dataclass(frozen=True)
class IndexStats:
    """What an index holds and takes.

    Attributes:
        entries: N.
        removed: vectors of removed entries that searches still pass over; `compact` drops them.
        segments: files of vectors.
        tail: entries that are in none of them yet, and are read from the database.
        bytes: of all files.
    """

    entries: int
    removed: int
    segments: int
    tail: int
    bytes: int


class Index:
    """Vectors made by one model, with exact search by cosine. Made by `build`, `create` or `open`.

    What `add`, `upsert` and `remove` did is on the disk when they return: all of a call, or after an error
    nothing. One process writes at a time, and others wait for up to 5 seconds; any number read meanwhile, and each
    call sees the state of one moment, the last that was committed. May be shared between threads.

    Attributes:
        path: its folder.
        model: name of the model.
        fingerprint: of the model; only vectors of the same model can be compared.
        dim: D.
        artifact: folder of the artifact that made the vectors in the client's own process; None: a server did.
    """

    def __init__(self, path: Path, database: Database, facts: tables.Facts) -> None:
        """Use `build`, `create` or `open`."""
        self.path = path
        self.model = str(facts["model"])
        self.fingerprint = str(facts["fingerprint"])
        self.dim = int(facts["dim"])
        self.artifact: str | None = facts["artifact"]
        self._database = database
        self._writer_lock = WriterLock(path)
        self._view: View | None = None
        self._view_lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return self.count()

    @classmethod
    def create(
        cls,
        path: str | Path,
        fingerprint: str,
        dim: int,
        *,
        model: str = "",
        artifact: str | None = None,
        replace: bool = False,
    ) -> Index:
        """Makes an empty index for vectors of the model with `fingerprint`; `replace`: where another one is.

        Raises:
            ConfigError: no fingerprint, or a `dim` below 1.
            IndexFileError: at `path` there is an index, or something else.
            ProtoclipError: `path` can't be written.
        """
        check_model_facts(fingerprint, dim)
        check_place(Path(path))
        new_database(Path(path), first_facts(model, fingerprint, dim, artifact), replace=replace)
        return cls.open(path)

    @classmethod
    def open(cls, path: str | Path, client: Client | None = None) -> Index:
        """Opens an index, at any size in milliseconds; with `client`, checks that its server has the model.

        An index of the first format is read whole, and converted by the first call that writes.

        Raises:
            IndexFileError: no index, one whose build isn't finished, a damaged one, or one made with a model
                that the server does not have.
            ConfigError: an index of the first format, and faiss isn't installed.
        """
        database, facts = opened(Path(path))
        index = cls(Path(path), database, facts)
        if client is not None:
            index.check_model(client.model_with(index.fingerprint) or client.model)
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
        resume: bool = True,
    ) -> Index:
        """Embeds pictures, or texts, into an index at `path`. One that is there is replaced at the end, at once.

        Each batch is on the disk before the next one is stored. A build that was interrupted, by whatever, goes
        on when it is called again: what has been embedded isn't again, with metadata as they are now; what is no
        longer among the items is dropped. Until it is finished, `open` says so, or opens the index that was
        there.

        Bad items, files that are not pictures, items whose id came before, and metadata without a picture are
        left out; they are listed in `skipped`, and a SkippedWarning gives their count.

        Args:
            images: a folder, whose pictures get their path below it as id; a table, WebDataset shards, an
                address of an object store, or `ReadOptions` for these, whose other columns are metadata and
                whose pictures have the name that stands there as id; or several of what `Client.embed_images`
                takes, with the path, or else the position, as id.
            metadata: a table whose column of pictures holds ids, or a mapping from ids. Pictures that aren't
                in it have none.
            texts: instead of `images`; the position is the id, and the text is stored as metadata `text`.
            progress: called after each batch.
            resume: False starts anew, as after pictures were changed under their names.

        Raises:
            ConfigError: not exactly one of `images` and `texts`, or another wrong argument.
            DataError: no good item, a missing file or column, or metadata that match no picture.
            ServerError: as the client raises it.
            IndexFileError: at `path` there is something else; IndexBusyError: another process writes to it.
            ProtoclipError: the disk is full, or `path` can't be written.
        """
        check_place(Path(path))
        contents = index_contents(images, texts, metadata)
        build_index(Path(path), client, contents, progress, resume=resume)
        index = cls.open(path)
        with index._holding_the_lock():
            index._make_segments()
        return index

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """What `build` left out, and why."""
        with self._reading() as (connection, _):
            rows = connection.execute("SELECT name, reason FROM left_out ORDER BY number").fetchall()
        return tuple(Skipped(id_text(name), id_text(reason)) for name, reason in rows)

    def add(
        self,
        vectors: ArrayLike | Embeddings,
        ids: Sequence[str],
        metadata: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        """Adds `vectors` `[n, D]` (normalised here), each with an id and JSON metadata: all of them or none.

        Raises:
            ConfigError: another shape, NaN, zeros, other numbers of ids or metadata, an id twice or already in
                the index, or metadata that JSON can't hold.
            IndexFileError: vectors that a client made with another model; IndexBusyError: another process has been
                writing for 5 seconds.
            ProtoclipError: the disk is full, or the folder can't be written.
        """
        rows, labels = self._checked(vectors, ids, metadata)
        with self._writing() as connection:
            tables.insert(connection, labels, rows)

    def upsert(
        self,
        vectors: ArrayLike | Embeddings,
        ids: Sequence[str],
        metadata: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        """As `add`, in place of the entries that have these ids."""
        rows, labels = self._checked(vectors, ids, metadata)
        with self._writing() as connection:
            tables.delete(connection, [label.id for label in labels])
            tables.insert(connection, labels, rows)

    def remove(self, ids: str | Iterable[str]) -> int:
        """Removes the entries with these ids, and says how many there were; errors as `add`."""
        names = [ids] if isinstance(ids, str) else list(ids)
        with self._writing() as connection:
            return tables.delete(connection, dict.fromkeys(id_bytes(name) for name in names))

    def get(self, name: str) -> Entry | None:
        """The entry with this id; None if there is none.

        Raises:
            IndexFileError: the index is damaged, or closed.
        """
        with self._reading() as (connection, _):
            (key,) = tables.keys_of(connection, [id_bytes(name)])
            if key is None:
                return None
            label = tables.labels_of(connection, [key], self._database.path)[key]
            return self._entries(connection, [(key, label)])[0]

    def count(self, where: Where | None = None) -> int:
        """The number of entries; with `where`, of those that fit (as in `search`)."""
        with self._reading() as (connection, facts):
            if where is None:
                return int(facts["count"])
            sql, values = condition_of(where)
            (number,) = connection.execute(f"SELECT count(*) FROM entries WHERE {sql}", values).fetchone()
            return int(number)

    def iterate(self, where: Where | None = None) -> Iterator[Entry]:
        """All entries, or those that fit, in the order in which they were added; none of those added meanwhile."""
        sql, values = condition_of({} if where is None else where)
        with self._reading() as (connection, _):
            for part in tables.all_labels(connection, self._database.path, sql, values):
                yield from self._entries(connection, part)

    @overload
    def search(
        self,
        vectors: Vector,
        k: int = ...,
        *,
        where: Where | None = ...,
        group_by: str | None = ...,
        offset: int = ...,
        without: Sequence[str] = ...,
    ) -> list[Hit]: ...
    @overload
    def search(
        self,
        vectors: Matrix,
        k: int = ...,
        *,
        where: Where | None = ...,
        group_by: str | None = ...,
        offset: int = ...,
        without: Sequence[str] = ...,
    ) -> list[list[Hit]]: ...
    @overload
    def search(
        self,
        vectors: ArrayLike | Embeddings,
        k: int = ...,
        *,
        where: Where | None = ...,
        group_by: str | None = ...,
        offset: int = ...,
        without: Sequence[str] = ...,
    ) -> list[Hit] | list[list[Hit]]: ...
    def search(
        self,
        vectors: ArrayLike | Embeddings,
        k: int = 10,
        *,
        where: Where | None = None,
        group_by: str | None = None,
        offset: int = 0,
        without: Sequence[str] = (),
    ) -> list[Hit] | list[list[Hit]]:
        """The `k` entries with the largest cosine, best first; fewer where there are fewer.

        Equal cosines come in the order in which the entries were added, so that pages fit together.

        Args:
            vectors: `[D]` gives list[Hit], and `[Q, D]` list[list[Hit]], a list for each row. They need not be
                normalised: `2 * red - shoe` is a query too.
            where: conditions on metadata: `{"price": {"lt": 50}, "stock": True}`. A field has a value, or some of
                eq, ne, lt, le, gt, ge, in (a list) and exists (true or false). Numbers are compared with numbers
                and texts with texts; a text that is written like a number, or is true or false, counts as one too.
                All must hold; `{"or": [...]}` and `{"and": [...]}` join conditions, up to 1000. `in` takes any
                number of values.
            group_by: a field of the metadata: the best entry of each of its values alone, `k` of them. An entry
                without the field is like no other.
            offset: how many to pass over: the second page of 10 has `offset=10`.
            without: ids that are no answer.

        Raises:
            ConfigError: `k` below 1, `offset` below 0, one of them no whole number, another shape, NaN, zeros, or
                a wrong condition.
            IndexFileError: vectors that a client made with another model, or a damaged index.
        """
        array = self._of_this_model(vectors)
        rows = (
            unit_rows(array, self.dim)
            if np.size(array) or np.ndim(array) != 2
            else np.zeros((0, self.dim), np.float32)
        )
        wanted = Wanted(k, offset, where, group_by, without)
        wanted.check()
        with self._reading() as (connection, facts):
            found = find(connection, self._current(connection, facts), rows, wanted, self._database.path)
        return found[0] if np.ndim(array) == 1 else found

    def vector(self, name: str) -> Vector:
        """The vector `[D]` of an entry, to search by.

        Raises:
            ConfigError: no entry has this id.
        """
        entry = self.get(name)
        if entry is None:
            raise ConfigError(f"{self.path}: no entry has the id {name!r}")
        return entry.vector

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

    def compact(self) -> None:
        """Drops what removed entries still take, and joins small segments: for a quiet hour. Errors as `add`."""
        with self._holding_the_lock():
            upkeep.make_segments(self.path, self._database, self.dim)
            upkeep.compact(self.path, self._database, self.dim)

    def convert(self) -> bool:
        """Converts an index of the first format now; False where it has this one. Errors as `add`."""
        was_old = is_old(self.path)
        with self._holding_the_lock():
            return was_old

    def stats(self) -> IndexStats:
        """What it holds, and how many bytes it takes."""
        with self._reading() as (connection, facts):
            number, held = connection.execute("SELECT count(*), coalesce(sum(count), 0) FROM segments").fetchone()
            (last,) = connection.execute("SELECT coalesce(max(last), 0) FROM segments").fetchone()
            (tail,) = connection.execute("SELECT count(*) FROM entries WHERE key > ?", (last,)).fetchone()
        return IndexStats(
            entries=int(facts["count"]),
            removed=int(held) + int(tail) - int(facts["count"]),
            segments=int(number),
            tail=int(tail),
            bytes=sum(file.stat().st_size for file in self.path.iterdir()),
        )

    def save(self) -> None:
        """Does nothing: everything is on the disk already. Here for programs of the first format's time."""

    def close(self) -> None:
        """Closes its files; every other call fails then. May be called twice."""
        self._database.close()
        self._view = None

    def _checked(
        self, vectors: ArrayLike | Embeddings, ids: Sequence[str], metadata: Sequence[Mapping[str, Any]] | None
    ) -> tuple[Array, list[Label]]:
        array = self._of_this_model(vectors)
        rows = unit_rows(array, self.dim) if np.size(array) else np.zeros((0, self.dim), np.float32)
        return rows, make_labels(ids, metadata, len(rows))

    def _of_this_model(self, vectors: ArrayLike | Embeddings) -> ArrayLike:
        fingerprint = vectors_model(vectors)
        if fingerprint and fingerprint != self.fingerprint:
            raise IndexFileError(
                f"{self.path}: made with {self.model or 'the model'} {self.fingerprint}, but these vectors with "
                f"{fingerprint}: embed them with the index's model, or build the index again"
            )
        return vectors.vectors if isinstance(vectors, Embeddings) else vectors

    @contextmanager
    def _reading(self) -> Iterator[tuple[sqlite3.Connection, tables.Facts]]:
        with self._database.reading() as connection:
            yield connection, self._facts(connection)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._holding_the_lock():
            with self._database.writing() as connection:
                self._facts(connection)
                yield connection
            self._make_segments()

    def _make_segments(self) -> None:
        try:
            upkeep.make_segments(self.path, self._database, self.dim)
        except ProtoclipError as error:
            # What was asked for is on the disk. The next call that writes tries again.
            message = "searches read the last entries from the database until there is room"
            warnings.warn(f"{error}: {message}", SegmentWarning, stacklevel=5)

    @contextmanager
    def _holding_the_lock(self) -> Iterator[None]:
        with self._writer_lock.held() as outermost:
            if outermost:
                if isinstance(self._database, TemporaryDatabase):
                    self._database = convert(self.path, self._database)
                upkeep.tidy(self.path, self._database, self.dim)
            yield

    def _facts(self, connection: sqlite3.Connection) -> tables.Facts:
        facts = tables.read_facts(connection)
        if (facts["fingerprint"], facts["dim"]) != (self.fingerprint, self.dim):
            raise IndexFileError(f"{self.path}: was built again with another model meanwhile: open it again")
        return facts

    def _current(self, connection: sqlite3.Connection, facts: tables.Facts) -> View:
        """The view of the connection's snapshot; kept for the next call, as long as nothing changes."""
        with self._view_lock:
            known = self._view
            if known is not None and known.change == facts["change"]:
                return known
            older = known if known is not None and known.change < facts["change"] else None
            view = load_view(connection, facts, self.path, self._database.path, older)
            if known is None or older is not None:
                self._view = view
            return view

    def _entries(self, connection: sqlite3.Connection, part: list[tuple[int, Label]]) -> list[Entry]:
        keys = [key for key, _ in part]
        vectors = tables.vectors_of(connection, keys, self.dim, self._database.path)
        return [
            Entry(id_text(label.id), label.decoded(), vector)
            for (_, label), vector in zip(part, vectors, strict=True)
        ]
