"""A search index: vectors of one model, each with id and metadata. What is in its folder: `places`.

`Q` queries, `n` new entries, `N` all, `D` embedding.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from protoclip.client.results import Embeddings
from protoclip.contract.errors import ConfigError, ProtoclipError
from protoclip.contract.progress import Progress, silent
from protoclip.sources import read_pairs

from . import tables, upkeep
from .adapter import AdapterOptions
from .approximate.files import AcceleratorWarning
from .approximate.library import has_faiss
from .approximate.tuned import DEFAULT_RECALL, Tuning, is_due
from .approximate.tuning import check_options, tune, tuning_lock
from .building import BuildProgress, build_index, index_contents
from .copied_facts import read_copied, write_copied
from .database import TemporaryDatabase
from .entries import Label, id_bytes, make_labels
from .migrating import Migrated, Pictures, cancel_migration, migrate_index
from .opening import convert, first_facts, new_database, opened
from .pictures import table_states
from .places import check_model_facts, check_place, is_old
from .re_embedding import Entries
from .reader import IndexReader
from .source_record import record_of_reading, written
from .vectors import Array, unit_rows
from .view import SegmentWarning

if TYPE_CHECKING:
    import sqlite3

    from protoclip.client import Client
    from protoclip.client.inputs import ImageItem
    from protoclip.sources import ReadOptions

    from .sources import Metadata


class Index(IndexReader):
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

    @classmethod
    def create(
        cls,
        path: str | Path,
        fingerprint: str,
        dim: int,
        *,
        model: str = "",
        artifact: str | None = None,
        pictures: ReadOptions | None = None,
        replace: bool = False,
    ) -> Index:
        """Makes an empty index for vectors of the model with `fingerprint`; `replace`: where another one is.

        `pictures`: where those lie that the vectors will be of, whose ids are those that `build` gives them; so
        `migrate` finds them, and `IndexPictures`.

        Raises:
            ConfigError: no fingerprint, or a `dim` below 1.
            DataError: `pictures` can't be read.
            IndexFileError: at `path` there is an index, or something else.
            ProtoclipError: `path` can't be written.
        """
        check_model_facts(fingerprint, dim)
        check_place(Path(path))
        facts = first_facts(model, fingerprint, dim, artifact)
        if pictures is not None:
            record = record_of_reading(pictures, table_states(read_pairs(pictures)))
            facts["sources"] = written([] if record is None else [record])
        new_database(Path(path), facts, replace=replace)
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
            index.check_served(client)
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
        on when it is called again: what has been embedded isn't again, with metadata as they are now. An item that
        has changed under its id is embedded again, and so is one that can't be told from another without reading
        it: an open file, a PIL image, a single object in a store. What is no longer among the items is dropped.
        Until it is finished, `open` says so, or opens the index that was there.

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
            resume: False starts anew, as where a file was changed and kept its size and time.

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
        index.settle()
        return index

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

    def migrate(
        self,
        client: Client,
        images: Pictures | None = None,
        *,
        progress: Callable[[BuildProgress], None] | None = None,
        leave_out: bool = False,
        adapter: AdapterOptions | Literal["missing", "all"] | None = None,
    ) -> Migrated:
        """Embeds all entries again with the client's model, which then is the index's: same ids, same metadata.

        Until the end it is searched with its old model, and may be written to. Then new vectors, model and all
        take the place of the old ones in one transaction; whoever has it open must open it again. A migration that
        was interrupted, by whatever, goes on when it is called again; `migrating` says how far it is. An index of
        that model stays as it is.

        Pictures and texts are read again from where `build` read them. Entries that came by `add` or `upsert` have
        none there.

        Args:
            images: pictures by their ids, as a mapping or as for `build`: they come before those that the index
                knows of. For entries that were added, and where pictures have moved.
            progress: called after each batch.
            adapter: have the entries that can't be embedded ("missing"), or all but a sample ("all"), get their
                new vectors from the old ones, by a linear map that is fitted on entries with both. `adapter` says
                afterwards how much of what a search finds is lost by it.
            leave_out: whether entries that can't be embedded are left out, and listed in `skipped`; otherwise they
                are an error, and nothing changes.

        Raises:
            NotEmbedded: some entries can't be embedded: their picture is gone or bad, or it isn't known. Its
                `entries` says which and why; what was embedded is kept for the next call.
            LowRecall: searches among mapped vectors would find too little; its `report` says how much.
            DataError: pictures can't be read where they were, and `images` doesn't give any.
            ConfigError: the index doesn't know where its pictures are, and `images` doesn't say so; too few
                entries have both vectors to fit an adapter on; or both `leave_out` and `adapter` are given.
            ServerError: as the client raises it.
            IndexFileError: the index was built again meanwhile; IndexBusyError: another process migrates it, or
                wrote for 5 seconds when all was embedded.
            ProtoclipError: the disk is full, or the folder can't be written.
        """
        if leave_out and adapter is not None:
            raise ConfigError(
                "leave_out (--leave-out) and adapter (--adapter) are both given: what is mapped isn't left out"
            )
        with self._holding_the_lock():
            # One of the first format is converted.
            pass
        entries = Entries(self.path, self._database)
        options = AdapterOptions(adapter) if isinstance(adapter, str) else adapter
        migrated = migrate_index(
            entries,
            self._holding_the_lock,
            client,
            images,
            progress,
            leave_out=leave_out,
            adapter=options,
        )
        self._look_again()
        with self._holding_the_lock():
            self._make_segments()
        self.settle()
        return migrated

    def cancel_migration(self) -> bool:
        """Gives up a migration that isn't finished, and what it has embedded; False where there is none.

        Raises:
            IndexBusyError: it is going on.
        """
        return cancel_migration(self.path)

    def take_over(self, source: Index) -> None:
        """Has it know what `source`, whose entries it holds, knows beside them: for copies. Errors as `add`.

        That is what they were made of, which of them an adapter mapped and what was measured of it, and what a
        build left out.
        """
        with source._reading() as (connection, _):
            copied = read_copied(connection)
        with self._writing() as connection:
            write_copied(connection, copied)

    def compact(self) -> None:
        """Drops what removed entries still take, and joins small segments: for a quiet hour. Errors as `add`.

        It ends with `settle`, which makes approximate searches good again.
        """
        with self._holding_the_lock():
            upkeep.make_segments(self.path, self._database, self.dim)
            upkeep.compact(self.path, self._database, self.dim)
        self.settle()

    def tune(
        self,
        recall: float = DEFAULT_RECALL,
        queries: ArrayLike | Embeddings | None = None,
        progress: Progress = silent,
    ) -> Tuning:
        """Makes searches approximate where that is at least twice as fast, and says how much they then find.

        How hard they look is chosen apart for queries that are like the entries, as pictures are in an index of
        pictures, and for all others, as texts are there: those need more. For the first, entries are taken as
        queries; for the others it takes `queries`, without which they stay exact. The choice is made by some of
        them, and what it finds is measured on the others, beside exact search, for 10 hits and for 100; searches
        for more are exact, and so is `search(exact=True)`. Where no choice reaches the recall, or none is fast,
        searches stay exact, and the answer says why.

        Meanwhile the index may be searched and written to. What is added afterwards is compared with every query
        until the index is tuned again. An interrupted call changes nothing.

        Args:
            recall: the share of the nearest entries that a search must find, on average.
            queries: `[Q, D]`, at least 100, better 1,000 or more: what people ask for that is not like the
                entries, such as texts. Some are kept for the next tuning; None: those that were kept.
            progress: called with "code", the entries that are done, and their number.

        Raises:
            ConfigError: faiss isn't installed; a recall that isn't between 0 and 1; too few queries, or of another
                shape; fewer than 256 entries.
            IndexFileError: queries of another model, a damaged index, or one that was built again meanwhile.
            IndexBusyError: another process tunes it, or wrote for 5 seconds when all was done.
            ProtoclipError: the disk is full, or the folder can't be written.
        """
        given = None if queries is None else self._queries(self._of_this_model(queries))
        check_options(recall, given)
        with self._holding_the_lock():
            # One of the first format is converted.
            pass
        with tuning_lock(self.path, wait_s=0.0).held():
            with self._reading() as (connection, facts):
                view = self._snapshots.checked_view(connection, facts, self._database)
                kept = self._snapshots.kept_queries(facts, self._database)
            asked = kept if given is None else given
            found = tune(self.path, view, str(facts["build"]), asked, recall, progress, self._recording)
        with self._holding_the_lock():
            # Removes the accelerator before.
            pass
        return found

    def settle(self) -> None:
        """Called after many entries have come: tunes an index of 100,000 or more that is due, where faiss is.

        That is one that wasn't tuned, has doubled since, or has lost its accelerator; to the recall that was asked
        for before, or else 0.99. `build`, `migrate` and `compact` call it. Errors as `tune`.
        """
        stats = self.stats()
        if stats.tuning_is_due and has_faiss():
            self.tune(stats.tuning.asked if stats.tuning is not None else DEFAULT_RECALL)

    def convert(self) -> bool:
        """Converts an index of the first format now; False where it has this one. Errors as `add`."""
        was_old = is_old(self.path)
        with self._holding_the_lock():
            return was_old

    def save(self) -> None:
        """Does nothing: everything is on the disk already. Here for programs of the first format's time."""

    def _checked(
        self, vectors: ArrayLike | Embeddings, ids: Sequence[str], metadata: Sequence[Mapping[str, Any]] | None
    ) -> tuple[Array, list[Label]]:
        array = self._of_this_model(vectors)
        rows = unit_rows(array, self.dim) if np.size(array) else np.zeros((0, self.dim), np.float32)
        return rows, make_labels(ids, metadata, len(rows))

    @contextmanager
    def _recording(self) -> Iterator[sqlite3.Connection]:
        with self._holding_the_lock(), self._database.writing() as connection:
            self._facts(connection)
            yield connection

    def _warn_where_due(self, before: int) -> None:
        """Once, by the call that made it due."""
        with self._reading() as (_, facts):
            if is_due(facts) and not is_due({**facts, "count": before}):
                message = "searches compare with every entry that isn't tuned for: run `protoclip index tune`"
                warnings.warn(
                    f"{self.path}: holds {facts['count']} entries: {message}", AcceleratorWarning, stacklevel=4
                )

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._holding_the_lock():
            with self._database.writing() as connection:
                before = int(self._facts(connection)["count"])
                yield connection
            self._make_segments()
        self._warn_where_due(before)

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
                with self._reading():
                    # Not where it has another model meanwhile, of other dimensions.
                    pass
                upkeep.tidy(self.path, self._database, self.dim)
            yield
