"""Searches of an index, each of one moment. `Q` queries, `D` embedding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Unpack, overload

import numpy as np
from numpy.typing import ArrayLike

from protoclip.client.results import Embeddings, Hit
from protoclip.client.transport import Matrix, Vector
from protoclip.client.wanted import IndexOptions, Wanted
from protoclip.contract.progress import Progress, silent

from .conditions import Where
from .duplicate_groups import DuplicateGroup, duplicate_groups
from .duplicates import checked_threshold
from .folder import IndexFolder
from .searching import check_wanted, find


class SearchedIndex(IndexFolder):
    """What an `Index` finds.

    Attributes: as of `Index`.
    """

    @overload
    def search(
        self,
        vectors: Vector,
        k: int = ...,
        *,
        without: Sequence[str] = ...,
        exact: bool = ...,
        **options: Unpack[IndexOptions],
    ) -> list[Hit]: ...
    @overload
    def search(
        self,
        vectors: Matrix,
        k: int = ...,
        *,
        without: Sequence[str] = ...,
        exact: bool = ...,
        **options: Unpack[IndexOptions],
    ) -> list[list[Hit]]: ...
    @overload
    def search(
        self,
        vectors: ArrayLike | Embeddings,
        k: int = ...,
        *,
        without: Sequence[str] = ...,
        exact: bool = ...,
        **options: Unpack[IndexOptions],
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
        distinct: float | None = None,
        exact: bool = False,
        min_relevance: float | None = None,
        query_kind: Literal["text", "image"] | None = None,
    ) -> list[Hit] | list[list[Hit]]:
        """The `k` entries with the largest cosine, best first; fewer where there are fewer.

        Equal cosines come in the order in which the entries were added, so that pages fit together. Of an index
        that was tuned some searches are approximate: `tuning` says how many of the best they find. Those that they
        find have the same scores and the same order.

        Args:
            vectors: `[D]` gives list[Hit], and `[Q, D]` list[list[Hit]], a list for each row. They need not be
                normalised: `2 * red - shoe` is a query too.
            where: conditions on metadata: `{"price": {"lt": 50}, "stock": True}`. A field has a value, or some of
                eq, ne, lt, le, gt, ge, in (a list) and exists (true or false). Numbers are compared with numbers
                and texts with texts; a text that is written like a number, or is true or false, counts as one too.
                All must hold; `{"or": [...]}` and `{"and": [...]}` join conditions, up to 1000. `in` takes any
                number of values.
            group_by: a field of the metadata: the best entry of each of its values alone, `k` of them. An entry
                without the field, or with null in it, is like no other.
            offset: how many to pass over: the second page of 10 has `offset=10`.
            without: ids that are no answer.
            distinct: a cosine, 0.97 for example: a hit that is this near to a better one is not shown, so that
                copies of a picture are one answer, the best of them. With `group_by`, of the groups' best.
            exact: compare with every vector, also where the index was tuned.
            min_relevance: a probability, of which `relevance.text.advised` is one: of the hits asked for, those
                that are what the query means with at least this probability alone, which may be none; and each hit
                says its `relevance`. 0 shows all. It needs an index that is calibrated (`calibrate`).
            query_kind: what the vectors are of, for `min_relevance`: "text", or "image" also for entries. None:
                each by whether it lies nearer to texts or to pictures, which is no sure sign.

        Raises:
            ConfigError: `k` below 1, `offset` below 0, one of them no whole number, a `distinct` that is no cosine
                above 0, another shape, NaN, zeros, or a wrong condition; `min_relevance` outside of 0 to 1, or
                without a calibration of this model and kind.
            IndexFileError: vectors that a client made with another model, or a damaged index.
        """
        array = self._of_this_model(vectors)
        rows = self._queries(array)
        wanted = Wanted(k, offset, where, group_by, distinct, min_relevance)
        check_wanted(wanted, without)
        with self._reading() as (connection, facts):
            view = self._snapshots.view(connection, facts, self._database)
            nearest = self._snapshots.nearest(connection, facts, self._database, exact=exact)
            relevance = None
            if min_relevance is not None:
                relevance = self._judges.relevance(connection, facts, query_kind)
            found = find(connection, view, rows, wanted, without, self._database.path, nearest, relevance)
        return found[0] if np.ndim(array) == 1 else found

    def duplicates(
        self, threshold: float = 0.97, *, where: Where | None = None, progress: Progress = silent
    ) -> list[DuplicateGroup]:
        """Groups of entries that are nearly the same, the largest first; exactly, in bounded memory.

        Entries are taken in the order in which they were added: each joins the nearest of the representatives
        before it whose cosine with it is at least `threshold`, and becomes one itself where there is none. So all
        others are that near to the representative of their group, and no two representatives are: whoever keeps
        these alone has no duplicates, and nothing is lost that isn't like something that was kept.

        Args:
            threshold: a cosine above 0; 1 finds what is the same but for rounding.
            where: only among the entries that fit, as in `search`.
            progress: called with "compare", the entries that are done, and their number.

        Raises:
            ConfigError: another threshold, or a wrong condition.
            IndexFileError: a damaged index.
        """
        nearness = checked_threshold("threshold", threshold)
        with self._reading() as (connection, facts):
            view = self._snapshots.checked_view(connection, facts, self._database)
            return duplicate_groups(connection, view, where, nearness, self._database.path, progress)
