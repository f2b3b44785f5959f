"""The probability that a hit is what a query asks for. `n` hits, `D` embedding.

It is that of two questions together: whether the index has an answer at all, judged by the nearest hits; and,
where it has one, whether it is this hit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protoclip.search.searching import JUDGED
from protoclip.search.vectors import Array

from .logistic import Floats, Logistic, fit_logistic
from .references import References

_BEST = 3
_LEAST = 1e-6


@dataclass(frozen=True, eq=False)
class Example:
    """A query with known answers: features `[n, F]` of its nearest hits, and which of them are answers `[n]`.

    Attributes:
        has_answer: whether one is in the index, found or not.
    """

    features: Floats
    truth: NDArray[np.bool_]
    has_answer: bool


@dataclass(frozen=True, eq=False)
class Judge:
    """Attributes:
    of_hit: whether a hit is an answer, of queries that have one.
    of_query: whether there is one.
    of_both: turns the product of both into a probability.
    """

    of_hit: Logistic
    of_query: Logistic
    of_both: Logistic

    def relevance(self, nearest: Floats, features: Floats) -> Floats:
        """Probabilities `[n]` of hits with `features` `[n, F]`; `nearest`: those of the nearest, at least one."""
        answered = self.of_query(_of_query(nearest, self.of_hit(nearest))[np.newaxis])
        return self.of_both(_of_product(self.of_hit(features) * answered))


@dataclass(frozen=True, eq=False)
class RelevanceModel:
    """A judge with what it compares hits with."""

    references: References
    judge: Judge

    def relevance(self, query: Array, nearest: Array, entries: Array) -> Floats:
        """Probabilities `[n]` that `entries` `[n, D]` are what `query` `[D]` asks for, all of unit norm.

        Args:
            nearest: `[JUDGED, D]`, the nearest entries of those that count, or as many as there are; where there
                are none, neither are `entries`.
        """
        if not len(entries):
            return np.zeros(0)
        nearest = nearest[:JUDGED]
        features = self.references.features(query, np.concatenate([nearest, entries]))
        return self.judge.relevance(features[: len(nearest)], features[len(nearest) :])


def fit_judge(examples: Sequence[Example]) -> Judge:
    """Learns from queries of which some have no answer.

    Raises:
        ValueError: all or none have one, or no answer is among the nearest hits, or nothing else is.
    """
    answered = [one for one in examples if one.has_answer]
    of_hit = fit_logistic(
        np.concatenate([one.features for one in answered] or [np.zeros((0, 1))]),
        np.concatenate([one.truth for one in answered] or [np.zeros(0, np.bool_)]),
    )
    by_query = np.stack([_of_query(one.features, of_hit(one.features)) for one in examples])
    of_query = fit_logistic(by_query, np.array([one.has_answer for one in examples]))
    products = [
        of_hit(one.features) * probable for one, probable in zip(examples, of_query(by_query), strict=True)
    ]
    of_both = fit_logistic(_of_product(np.concatenate(products)), np.concatenate([one.truth for one in examples]))
    return Judge(of_hit, of_query, of_both)


def _of_query(features: Floats, probable: Floats) -> Floats:
    """What the nearest hits tell of a query: features of the most probable one, and how probable the best are."""
    best = np.full(_BEST, _LEAST)
    ordered = np.sort(probable)[::-1][:_BEST]
    best[: len(ordered)] = np.maximum(ordered, _LEAST)
    return np.concatenate([features[int(np.argmax(probable))], np.log(best), [np.log(probable.sum() + _LEAST)]])


def _of_product(product: Floats) -> Floats:
    # Platt's scaling: the order stays, and what both questions count twice is taken back.
    inside = np.clip(product, _LEAST, 1.0 - _LEAST)
    return np.log(inside / (1.0 - inside))[:, np.newaxis]
