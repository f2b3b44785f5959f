"""What a comparison on random weights can prove of a lower precision: its graph, and not its accuracy.

Embeddings of an untrained model crowd together, so that rounding errors are as large as their distances; and where
they pass all the same, trained weights with their outliers may not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .checks import Check, not_checked
from .compare import Comparison

ACCURACY = "accuracy"
# Another graph, or rows in another order, are nowhere near both; rounding to eight bits misses the first alone,
# where all embeddings are nearly alike.
_SAME_GRAPH, _SAME_DIRECTION = 0.5, 0.99


def of_random_weights(checks: Iterable[Check], comparisons: Mapping[str, Comparison]) -> list[Check]:
    """The checks of an engine of lower precision, with those of accuracy as not checked.

    A comparison that failed stays failed where it is not finite, has a zero, or is far from torch's embeddings,
    which no rounding explains.
    """
    opened = [_open(check, comparisons.get(check.name)) for check in checks]
    why = "the weights are random, which proves the graph alone: `protoclip export` with --weights proves accuracy"
    return [*opened, not_checked(ACCURACY, why)]


def _open(check: Check, found: Comparison | None) -> Check:
    if check.outcome != "failed" or found is None or found.min_cosine is None:
        return check
    centred = found.mean_centred_cosine
    if centred is not None and centred < _SAME_GRAPH and found.min_cosine < _SAME_DIRECTION:
        return check
    why = f"{check.explanation}, of random weights, which says nothing of trained ones"
    return Check(check.name, "not checked", why, check.measured, check.bound)
