"""What is done to an index as a whole, now and then. `Q` queries, `D` embedding."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from protoclip.contract.errors import ConfigError
from protoclip.contract.progress import Progress, silent

from . import upkeep
from .adapter import AdapterOptions
from .building import BuildProgress
from .migrated import Migrated
from .migrating import Pictures, cancel_migration, migrate_index
from .re_embedding import Entries
from .relevance.calibrated import Calibration
from .relevance.known import Asking
from .relevance.of_index import Embed, Snapshot, calibrate_snapshot
from .relevance.stored import write_calibration
from .tuned_index import TunedIndex
from .vectors import Array

if TYPE_CHECKING:
    from protoclip.client import Client


class TendedIndex(TunedIndex):
    """How an `Index` is kept quick and small, and moved to another model.

    Attributes: as of `Index`.
    """

    def compact(self, progress: Progress = silent) -> None:
        """Drops what removed entries still take, and joins small segments: for a quiet hour. Errors as `add`.

        It ends with `settle`, which makes approximate searches good again, and calls `progress`.
        """
        with self._holding_the_lock():
            upkeep.make_segments(self.path, self._database, self.dim)
            upkeep.compact(self.path, self._database, self.dim)
        self.settle(progress)

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
