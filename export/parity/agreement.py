"""Whether two sets of embeddings give the same answers in retrieval and zero-shot classification.

Shapes: `N` pictures and texts, `C` classes, `D` embedding. The text of row n belongs to the picture of row n.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .compare import recall_at_1, top_1

Array = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Embeddings:
    """One model's embeddings: `images` and `texts` `[N, D]`, `classes` `[C, D]` (C may be 0), unit norm."""

    images: Array
    texts: Array
    classes: Array


@dataclass(frozen=True)
class Agreement:
    """How the reference and the candidate answer the same queries.

    `top_1_*` is the share of queries with the same best key in both, the other side's N rows being the
    keys; the rest are pairs of the reference's number and the candidate's: recall at 1 of the true pairs,
    and zero-shot accuracy, None without classes. `top_1_zero_shot` is the share of equal predictions.
    """

    top_1_image_to_text: float
    top_1_text_to_image: float
    recall_at_1_image_to_text: tuple[float, float]
    recall_at_1_text_to_image: tuple[float, float]
    top_1_zero_shot: float | None
    zero_shot_accuracy: tuple[float, float] | None


def agreement(reference: Embeddings, candidate: Embeddings, labels: NDArray[np.int64]) -> Agreement:
    """Compares answers; `labels` `[N]` are the pictures' classes and are used only where C > 0."""
    expected = top_1(reference.images, reference.texts)
    expected_back = top_1(reference.texts, reference.images)
    same, accuracy = _zero_shot(reference, candidate, labels)
    return Agreement(
        top_1_image_to_text=_part(expected, top_1(candidate.images, candidate.texts)),
        top_1_text_to_image=_part(expected_back, top_1(candidate.texts, candidate.images)),
        recall_at_1_image_to_text=_recalls(reference, candidate, back=False),
        recall_at_1_text_to_image=_recalls(reference, candidate, back=True),
        top_1_zero_shot=same,
        zero_shot_accuracy=accuracy,
    )


def _recalls(reference: Embeddings, candidate: Embeddings, back: bool) -> tuple[float, float]:
    pairs = [(e.texts, e.images) if back else (e.images, e.texts) for e in (reference, candidate)]
    return recall_at_1(*pairs[0]), recall_at_1(*pairs[1])


def _zero_shot(
    reference: Embeddings, candidate: Embeddings, labels: NDArray[np.int64]
) -> tuple[float | None, tuple[float, float] | None]:
    if not len(reference.classes):
        return None, None
    expected = top_1(reference.images, reference.classes)
    found = top_1(candidate.images, candidate.classes)
    return _part(expected, found), (_part(expected, labels), _part(found, labels))


def _part(expected: NDArray[np.int64], found: NDArray[np.int64]) -> float:
    return float((expected == found).mean())
