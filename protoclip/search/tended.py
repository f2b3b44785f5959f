"""What is done to an index as a whole, now and then. `Q` queries, `D` embedding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from numpy.typing import ArrayLike

from protoclip.client.results import Embeddings
from protoclip.contract.errors import ConfigError
from protoclip.contract.progress import Progress, silent

from . import upkeep
from .adapter import AdapterOptions
from .approximate.library import has_faiss
from .approximate.tuned import DEFAULT_RECALL, Tuning
from .approximate.tuning import check_options, tune, tuning_lock
from .building import BuildProgress
from .migrated import Migrated
from .migrating import Pictures, cancel_migration, migrate_index
from .re_embedding import Entries
from .relevance.calibrated import Calibration
from .relevance.known import Asking
from .relevance.of_index import Embed, Snapshot, calibrate_snapshot
from .relevance.stored import write_calibration
from .vectors import Array
from .writer import IndexWriter

if TYPE_CHECKING:
    import sqlite3

    from protoclip.client import Client


class TendedIndex(IndexWriter):
    """How an `Index` is kept quick and small, and moved to another model.

    Attributes: as of `Index`.
    """

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

    def calibrate(
        self,
        client: Client,
        field: str | None = None,
        *,
        queries: Mapping[str, Sequence[str]] | None = None,
        group: str | None = None,
        progress: Progress = silent,
    ) -> Calibration:
        """Learns how probable it is that a hit is what was asked for, so that a search may find nothing.

        The texts in a field of the metadata are the queries, and the entries that have them the answers; half of
        the queries are asked while their answers are hidden, as others will be that the index has no answer to.
        What is learned is measured on entries that it wasn't learned from. Entries with others of the same text
        are queries as well, for searches by pictures and by entries, which are calibrated apart.

        Meanwhile the index may be searched and written to. It holds for this model, and is due again when the
        index has doubled or lost half. An interrupted call changes nothing.

        Args:
            client: of the index's model.
            field: whose texts, up to 2,000 of them, are the queries: a caption or label; of several, all.
            queries: texts that people ask, and the ids of the entries that each is answered by; beside `field`, or
                instead of it.
            group: a field; entries with the same value are hidden together. With a kind of goods, a search finds
                nothing where the whole kind is missing; what is of the kind it may take for an answer. None: the
                text itself, which is harder to tell from its like.
            progress: called with what is done, the queries that are done, and their number.

        Raises:
            ConfigError: no entry has a text in `field`, or any `group`, or an id of `queries`; none is given.
            DataError: too few texts, or nothing can be learned from what they find.
            IndexFileError: the client's model is another one, a damaged index, or one built again meanwhile.
            ServerError: as the client raises it.
            IndexBusyError, ProtoclipError: as `add`.
        """
        asking = Asking(field, queries or {}, group)
        asking.check()
        self.check_served(client)
        with self._holding_the_lock():
            # One of the first format is converted.
            pass
        with self._reading() as (connection, facts):
            nearest = self._snapshots.nearest(connection, facts, self._database, exact=False)
            snapshot = Snapshot(connection, facts, nearest, self._database.path)
            models, calibration = calibrate_snapshot(snapshot, self._embedding(client), asking, progress)
        with self._recording() as connection:
            write_calibration(connection, calibration, models)
        return calibration

    def settle(self) -> None:
        """Called after many entries have come: tunes an index of 100,000 or more that is due, where faiss is.

        That is one that wasn't tuned, has doubled since, or has lost its accelerator; to the recall that was asked
        for before, or else 0.99. `build`, `migrate` and `compact` call it. Errors as `tune`.
        """
        stats = self.stats()
        if stats.tuning_is_due and has_faiss():
            self.tune(stats.tuning.asked if stats.tuning is not None else DEFAULT_RECALL)

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

    def _embedding(self, client: Client) -> Embed:
        def embed(texts: list[str]) -> tuple[list[str], Array]:
            found = client.embed_texts(texts, errors="return")
            bad = {error.position for error in found.errors}
            good = [row for row in range(len(texts)) if row not in bad]
            return [texts[row] for row in good], self._queries(self._of_this_model(found.vectors[good]))

        return embed

    @contextmanager
    def _recording(self) -> Iterator[sqlite3.Connection]:
        with self._holding_the_lock(), self._database.writing() as connection:
            self._facts(connection)
            yield connection
