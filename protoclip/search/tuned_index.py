"""Tuning an index, and making its accelerator anew where that is lost. `Q` queries, `D` embedding."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from numpy.typing import ArrayLike

from protoclip.client.results import Embeddings
from protoclip.contract.progress import Progress, silent

from .approximate.files import is_whole
from .approximate.library import has_faiss
from .approximate.tuned import DEFAULT_RECALL, Tuning, is_due, read_record
from .approximate.tuning import check_options, forget_tuning, has_enough, tune, tuning_lock
from .writer import IndexWriter

if TYPE_CHECKING:
    import sqlite3


class TunedIndex(IndexWriter):
    """How searches of an `Index` are made approximate.

    Attributes: as of `Index`.
    """

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
                if given is None:
                    given = self._snapshots.kept_queries(connection, facts, self._database)
            found = tune(self.path, view, str(facts["build"]), given, recall, progress, self._recording)
        with self._holding_the_lock():
            # Removes the accelerator before.
            pass
        return found

    def settle(self, progress: Progress = silent) -> None:
        """Called after many entries have come: tunes an index that is due, where faiss is.

        That is one of 100,000 entries or more that wasn't tuned, or has doubled since, and one of any size whose
        accelerator is missing or damaged; to the recall that was asked for before, or else 0.99. `build`,
        `migrate` and `compact` call it. What a call that writes began to mend is waited for.

        Args:
            progress: as of `tune`.

        Raises: as `tune`.
        """
        self._mending.wait()
        with self._reading() as (_, facts):
            record = read_record(facts)
        file = None if record is None else record.file
        lost = file is not None and not is_whole(self.path, file)
        if not has_faiss() or not (lost or is_due(facts)):
            return
        if has_enough(int(facts["count"])):
            self.tune(DEFAULT_RECALL if record is None else record.tuning.asked, progress=progress)
        else:
            # So few are compared at once: an index that was never tuned.
            with self._recording() as connection:
                forget_tuning(connection)

    @contextmanager
    def _recording(self) -> Iterator[sqlite3.Connection]:
        with self._holding_the_lock(), self._database.writing() as connection:
            self._facts(connection)
            yield connection
