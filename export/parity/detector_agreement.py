"""Whether a detector decides alike on an engine's embeddings and on torch's. `N` pictures, `D` embedding."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protoclip.contract.manifest import Precision

from .checks import Check, bounded, not_checked

Array = NDArray[np.float32]
DETECTOR = "detector"
MOST_CHANGED: Mapping[Precision, float] = {
    "fp32": 0.005,
    "fp16": 0.01,
    "bf16": 0.01,
    "int8": 0.05,
    "int8_static": 0.05,
    "fp8": 0.05,
}
"""Share of the pictures whose decision may be another one; one picture always, since a threshold is the score of
one. Eight bits may change as many as the usual threshold refuses of known pictures."""


@dataclass(frozen=True)
class Judges:
    """A detector twice: as it was fit, on torch's embeddings, and as its graph, on an engine's.

    Attributes:
        score: `[N, D]` → the scores `[N]`.
        threshold: from which one on a picture is known.
        exported: `[N, D]` → which are known `[N]`, and their scores `[N]`, of the graph that is served.
    """

    score: Callable[[Array], NDArray[np.float64]]
    threshold: float
    exported: Callable[[Array], tuple[NDArray[np.bool_], Array]]


@dataclass(frozen=True)
class Agreement:
    """What `agreement` found.

    Attributes:
        num_pictures: N.
        same_known: share of them that are known to both or to neither.
        known: shares of them that are known, by torch's embeddings and by the engine's.
        max_score_difference: the largest difference of a score, in the detector's own scale.
    """

    num_pictures: int
    same_known: float
    known: tuple[float, float]
    max_score_difference: float

    @property
    def num_changed(self) -> int:
        """Pictures with another decision."""
        return round((1.0 - self.same_known) * self.num_pictures)


def agreement(judges: Judges, expected: Array, found: Array) -> Agreement:
    """Of torch's embeddings `[N, D]` and the engine's of the same pictures, all finite, N ≥ 1.

    Raises:
        ModelError: the graph can't be run.
        DataError: the detector takes embeddings of another D.
    """
    return decisions(judges, expected, *judges.exported(found))


def decisions(judges: Judges, expected: Array, known: NDArray[np.bool_], others: Array) -> Agreement:
    """Of torch's embeddings `[N, D]`, and what was decided `[N]` and scored `[N]` elsewhere; errors as above."""
    scores = judges.score(expected)
    decided = scores >= judges.threshold
    return Agreement(
        num_pictures=len(scores),
        same_known=float((decided == known).mean()),
        known=(float(decided.mean()), float(known.mean())),
        max_score_difference=float(np.abs(scores - others).max()),
    )


def detector_check(found: Agreement, precision: Precision, random_weights: bool) -> Check:
    """The check that no more decisions changed than the precision may change.

    Of random weights, whose embeddings crowd together, a lower precision that changes more proves nothing.
    """
    most = max(1, int(MOST_CHANGED[precision] * found.num_pictures))
    passed = found.num_changed <= most
    measured = (
        f"{found.num_changed} of {found.num_pictures}, scores off by {found.max_score_difference:.1e} at most"
    )
    bound = f"other decisions ≤ {most}"
    why = f"{found.num_changed} of {found.num_pictures} pictures are judged otherwise than by torch's embeddings"
    if not passed and random_weights and precision != "fp32":
        return not_checked(DETECTOR, f"{why}, of random weights, which says nothing of trained ones", bound)
    return bounded(DETECTOR, passed, f"{why}, allowed {most}", measured, bound)
