"""One hit for several that belong together, by looking further until there are enough. `n` hits, `D` embedding."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from protoclip.client.results import Hit
from protoclip.client.wanted import Wanted

from .duplicates import checked_threshold
from .vectors import Array

_FIRST_LOOK = 4
_MANY = 200


@dataclass(frozen=True)
class Distinct:
    """Hides hits that are nearly the same as a better one.

    They are taken best first, and one that is hidden hides no other: no two that are shown are as near as the
    threshold, and each of the others is that near to a better one that is shown.

    Attributes:
        threshold: a cosine, as `checked_threshold` gives it.
        vectors: gives those `[D]` of entries by their ids; None of one that isn't there any more.
    """

    threshold: float
    vectors: Callable[[Sequence[str]], Sequence[Array | None]]

    def shown(self, hits: Sequence[Hit], number: int) -> list[Hit]:
        """The first `number` that are shown, or all."""
        found: list[Hit] = []
        kept: list[Array] = []
        for start in range(0, len(hits), _MANY):
            there, rows = self._with_vectors(hits[start : start + _MANY])
            for row in self._free(rows, kept):
                found.append(there[row])
                kept.append(rows[row])
            if len(found) >= number:
                break
        return found[:number]

    def _with_vectors(self, hits: Sequence[Hit]) -> tuple[list[Hit], Array]:
        pairs = zip(hits, self.vectors([hit.id for hit in hits]), strict=True)
        there = [(hit, vector) for hit, vector in pairs if vector is not None]
        return [hit for hit, _ in there], np.array([vector for _, vector in there], dtype=np.float64)

    def _free(self, rows: Array, kept: Sequence[Array]) -> list[int]:
        """Those of `rows` `[n, D]` that are near to none of `kept`, nor to one before them that is free."""
        free: list[int] = []
        if len(rows):
            near_kept = (rows @ np.stack(kept).T >= self.threshold).any(axis=1) if kept else np.zeros(len(rows))
            near = rows @ rows.T >= self.threshold
            for row in np.flatnonzero(near_kept == 0).tolist():
                if not near[row, free].any():
                    free.append(row)
        return free


def best_of_groups(
    nearest: Callable[[int], list[Hit]],
    wanted: Wanted,
    vectors: Callable[[Sequence[str]], Sequence[Array | None]],
) -> list[Hit]:
    """The hits of one query, those that are passed over among them; `nearest(n)` gives the best `n`.

    Of each value of the field `group_by` the best alone, and of these none that is nearly the same as a better
    one; `vectors` as of `Distinct`.
    """
    distinct, number = None, wanted.last
    if wanted.distinct is not None:
        distinct = Distinct(checked_threshold("distinct", wanted.distinct), vectors)
    look = _FIRST_LOOK * number
    while True:
        hits = nearest(look)
        best = hits if wanted.group_by is None else _first_of_each(hits, wanted.group_by)
        shown = best[:number] if distinct is None else distinct.shown(best, number)
        if len(shown) >= number or len(hits) < look:
            return shown
        look *= _FIRST_LOOK


def _first_of_each(hits: Sequence[Hit], field: str) -> list[Hit]:
    best: dict[str, Hit] = {}
    for hit in hits:
        best.setdefault(_group(hit, field), hit)
    return list(best.values())


def _group(hit: Hit, field: str) -> str:
    """What has no such field, or null, is like nothing else; 1.0 is 1, and true is not."""
    value = hit.metadata.get(field)
    if value is None:
        return f"id {hit.id}"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, sort_keys=True)
