"""Queries whose answers in an index are known, and the index with some of its entries hidden.

`Q` queries, `N` entries, `G` groups, `D` embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protoclip.search.nearest import Best
from protoclip.search.searching import JUDGED
from protoclip.search.vectors import Array, Keys

from .judge import Example
from .references import References
from .reliability import Judged

FOLDS = 5
_TOGETHER = 256


@dataclass(frozen=True, eq=False)
class Entries:
    """All entries of an index: keys in order `[N]`, and the group `[N]` of each, from 0 to G - 1.

    Entries of a group are hidden together.
    """

    keys: Keys
    groups: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class KnownQueries:
    """Attributes:
    vectors: `[Q, D]` of unit norm.
    answers: keys of the entries that each of them asks for, one at least.
    own: `[Q]`, the key of the query's own entry, which is no hit; -1: it has none.
    """

    vectors: Array
    answers: tuple[Keys, ...]
    own: Keys

    def __len__(self) -> int:
        return len(self.answers)


@dataclass(frozen=True, eq=False)
class Found:
    """A query and its nearest hits, with or without its answers in the index.

    Attributes:
        query: `[D]`.
        hits: `[n, D]`, best first.
        cosines: `[n]`.
        truth: `[n]`, which of them are answers.
        fold: of its group: what is hidden together is in one.
        hidden: the fold that was hidden when it was asked.
    """

    query: Array
    hits: Array
    cosines: NDArray[np.float64]
    truth: NDArray[np.bool_]
    has_answer: bool
    fold: int
    hidden: int

    def example(self, references: References) -> Example:
        """What a judge learns from, or judges."""
        return Example(references.features(self.query, self.hits), self.truth, self.has_answer)

    def by_cosine(self) -> Judged:
        """As one cut-off for all queries sees it."""
        return Judged(self.cosines, self.truth, self.has_answer)


Look = Callable[[Array, Keys], list[Best]]
"""The JUDGED + 1 nearest of the keys, in order, to each of `[Q, D]`."""
Vectors = Callable[[Keys], Array]


def folds_of(groups: NDArray[np.int64], seed: int = 0) -> NDArray[np.int64]:
    """One of FOLDS for each of `G` groups, all of about the same number."""
    number = int(groups.max(initial=-1)) + 1
    return np.asarray(np.random.default_rng(seed).permutation(number) % FOLDS, dtype=np.int64)


def ask(
    entries: Entries,
    queries: KnownQueries,
    look: Look,
    vectors: Vectors,
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[Found]:
    """Asks every query twice: once while its group is hidden, and once while another is.

    Yields:
        Found: queries whose own answers were all hidden have none; those that lose some of them have one.
    """
    fold_of_group = folds_of(entries.groups, seed)
    fold_of_entry = fold_of_group[entries.groups]
    fold_of_query = np.array([_fold_of(answers, entries.keys, fold_of_entry) for answers in queries.answers])
    done = 0
    for hidden in range(FOLDS):
        visible = entries.keys[fold_of_entry != hidden]
        asked = np.flatnonzero(np.isin(fold_of_query, [hidden, (hidden + 1) % FOLDS]))
        for start in range(0, len(asked), _TOGETHER):
            rows = asked[start : start + _TOGETHER].tolist()
            for row, best in zip(rows, look(queries.vectors[rows], visible), strict=True):
                kept = np.flatnonzero(best.keys != queries.own[row])[:JUDGED]
                if not len(kept):
                    continue
                keys, answers = best.keys[kept], queries.answers[row]
                yield Found(
                    query=queries.vectors[row],
                    hits=vectors(keys),
                    cosines=best.scores[kept],
                    truth=np.isin(keys, answers),
                    has_answer=bool(np.isin(answers, visible).any()),
                    fold=int(fold_of_query[row]),
                    hidden=hidden,
                )
            done += len(rows)
            progress(done, 2 * len(queries))


def _fold_of(answers: Keys, keys: Keys, folds: NDArray[np.int64]) -> int:
    """That of the first answer; where answers are of several groups, hiding one leaves the others."""
    return int(folds[int(np.searchsorted(keys, answers[0]))])
