"""A model of relevance from queries with known answers, measured on groups that it didn't learn from.

`Q` queries, `R` references, `D` embedding.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from protoclip.contract.errors import DataError
from protoclip.search.vectors import Array

from .asked import FOLDS, Found
from .calibrated import CalibratedQueries
from .judge import Example, Judge, RelevanceModel, fit_judge
from .references import References
from .reliability import Judged, bins_of, calibration_error, cut_at, cut_that_keeps

FEWEST_QUERIES = 100
MOST_REFERENCES = 1000
HALF = 0.5


def calibrate(
    found: Sequence[Found], queries: Array, folds: NDArray[np.int64], entries: Array, what: str
) -> tuple[RelevanceModel, CalibratedQueries]:
    """Learns from all of `found`, after measuring on each fold of concepts what the others teach.

    While a fold is hidden, its queries are no references either: they will not be where entries are missing.

    Args:
        queries: `[Q, D]`, of which the references are chosen, with the fold `[Q]` of each.
        entries: `[n, D]`, a sample of the index.
        what: of which kind the queries are, for messages.

    Raises:
        DataError: too few queries, or no answer is found, or nothing else is.
    """
    if len(queries) < FEWEST_QUERIES:
        raise DataError(
            f"{len(queries)} {what} have known answers, too few to learn from: {FEWEST_QUERIES} are needed"
        )
    try:
        examples = _examples(found, queries, folds, entries)
        judged: list[Judged | None] = [None] * len(found)
        for fold in range(FOLDS):
            learned = fit_judge(
                [example for one, example in zip(found, examples, strict=True) if one.fold != fold]
            )
            judged = [
                _judged(learned, example) if one.fold == fold else before
                for one, example, before in zip(found, examples, judged, strict=True)
            ]
        model = RelevanceModel(References.of(_chosen(queries), entries), fit_judge(examples))
    except ValueError as error:
        raise DataError(
            f"from {len(queries)} {what} nothing can be learned: among the hits there must be answers and others, "
            "in several groups: see whether the index finds what its entries say"
        ) from error
    return model, _measured(found, [one for one in judged if one is not None], len(queries))


def _examples(found: Sequence[Found], queries: Array, folds: NDArray[np.int64], entries: Array) -> list[Example]:
    """What a judge learns from; every other query whose answers are shown has none of its group as reference.

    So it also knows queries for entries without a text, whose like no reference asks for.
    """
    known: dict[tuple[int, int], References] = {}
    examples = []
    for place, one in enumerate(found):
        left_out = one.hidden, one.fold if place % 2 else one.hidden
        if left_out not in known:
            known[left_out] = References.of(_chosen(queries[~np.isin(folds, left_out)]), entries)
        examples.append(one.example(known[left_out]))
    return examples


def _judged(learned: Judge, example: Example) -> Judged:
    return Judged(learned.relevance(example.features, example.features), example.truth, example.has_answer)


def _chosen(queries: Array) -> Array:
    if not len(queries):
        raise ValueError("no reference is left")
    return queries[np.random.default_rng(0).permutation(len(queries))[:MOST_REFERENCES]]


def _measured(found: Sequence[Found], judged: Sequence[Judged], count: int) -> CalibratedQueries:
    bins, first = bins_of(judged), bins_of([most_relevant(one) for one in judged])
    return CalibratedQueries(
        queries=count,
        hits=sum(len(one.truth) for one in judged),
        error=calibration_error(bins),
        error_of_best=calibration_error(first),
        at_half=cut_at(judged, HALF),
        advised=cut_that_keeps(judged),
        by_cosine=cut_that_keeps([one.by_cosine() for one in found]),
        bins=bins,
    )


def most_relevant(judged: Judged) -> Judged:
    """The one hit of a query that is shown last as `min_relevance` grows."""
    best = [int(np.argmax(judged.values))]
    return Judged(judged.values[best], judged.truth[best], judged.has_answer)
