"""What a condition costs: how hard to look where a share of the entries is kept, and what a vector costs.

`Q` queries, `D` embedding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from protoclip.search.vectors import Array, Keys

from .accelerator import Accelerator, Rows, selector_of
from .choosing import STEPS, found_shares, mean_and_low, median_s, numbers_of_lists, ranks_of
from .samples import FEWEST_KEPT, NUMBERS, SHARES, Queries, is_kept
from .tuned import Effort, FilteredEffort

_QUERIES = 400
_READ = 2000
_TIMED = 5
_LEAST_RATIO, _MOST_RATIO = 8.0, 1024.0


@dataclass(frozen=True)
class Conditioned:
    """Some queries of one kind, with their nearest of the entries that conditions keep, by share and at random."""

    by_share: dict[float, Queries]

    @classmethod
    def of(cls, queries: Queries, count: int) -> Conditioned:
        """Before anything was read of `count` entries."""
        some = queries.part(slice(_QUERIES))
        shares = [share for share in SHARES if share * count >= FEWEST_KEPT]
        return cls({share: Queries.of(some.vectors, some.own, NUMBERS[0]) for share in shares})

    def look(self, keys: Keys, vectors: Array) -> None:
        """Takes `vectors` `[n, D]` with their keys `[n]` into the nearest, where they are kept."""
        for share, queries in self.by_share.items():
            kept = is_kept(keys, share)
            queries.look(keys[kept], vectors[kept])

    def chosen(self, accelerator: Accelerator, effort: Effort, recall: float) -> tuple[FilteredEffort, ...]:
        """For each share the least effort that suffices, beside that without a condition; some have none."""
        found = [_chosen(*one, accelerator, effort, recall) for one in self.by_share.items()]
        return tuple(one for one in found if one is not None)


def _chosen(
    share: float, queries: Queries, accelerator: Accelerator, effort: Effort, recall: float
) -> FilteredEffort | None:
    seen, unseen = queries.part(slice(0, None, 2)), queries.part(slice(1, None, 2))
    if len(unseen.vectors) < 2:
        return None
    selector = selector_of(is_kept(accelerator.keys, share))
    number = NUMBERS[0]
    least = numbers_of_lists(accelerator, seen, number, recall)
    for probes in sorted({max(one, effort.probes) for one in least}):
        most = Effort(number, probes, effort.candidates)
        ranks = ranks_of(accelerator, seen, most, selector)
        for candidates in sorted({min(effort.candidates, int(np.ceil(number * step))) for step in STEPS}):
            if mean_and_low(found_shares(seen, ranks, candidates))[1] < recall:
                continue
            checked = ranks_of(accelerator, unseen, Effort(number, probes, candidates), selector)
            if mean_and_low(found_shares(unseen, checked, candidates))[0] >= recall:
                return FilteredEffort(share, probes, candidates)
            break
    return None


def codes_per_vector(accelerator: Accelerator, queries: Array, compare: Callable[[Array, Rows], object]) -> float:
    """How many codes a search compares in the time that reading and comparing one vector takes, by `compare`."""
    lists, count = accelerator.num_lists, len(accelerator.keys)
    some = queries[:_TIMED]
    few_lists = max(1, lists // 8)
    if lists == few_lists:
        return _LEAST_RATIO
    few, many = (_scan_s(accelerator, some, probes) for probes in (few_lists, lists))
    code_s = (many - few) / (count * (1 - few_lists / lists))
    rng = np.random.default_rng(1)
    number = min(_READ, count)

    def read(query: Array) -> object:
        return compare(query, np.sort(rng.permutation(count)[:number]))

    vector_s = median_s(read, some) / number
    return float(np.clip(vector_s / max(code_s, 1e-12), _LEAST_RATIO, _MOST_RATIO))


def _scan_s(accelerator: Accelerator, queries: Array, probes: int) -> float:
    return median_s(lambda query: accelerator.candidates(query, NUMBERS[-1], probes), queries)
