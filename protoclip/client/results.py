"""The client's results. `n` items, `C` classes, `D` embedding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from protoclip.contract.errors import ItemError
from protoclip.contract.zero_shot import class_probabilities

from .discovery import ServedModel
from .transport import Array


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Vectors, and the errors of single items.

    Attributes:
        vectors: `[n, D]` (`[D]` for a single item), float32, unit norm; NaN where the item was bad.
        errors: one for each bad item, by position.
        start: position of the first row in the stream; 0 outside of a stream.
    """

    vectors: Array
    errors: tuple[ItemError, ...] = ()
    start: int = 0


@dataclass(frozen=True)
class Classification:
    """The answer for one picture.

    Attributes:
        label: the most probable label.
        score: its probability.
        scores: probability of every label, in the order in which the labels were given. They sum to 1, except for
            a sigmoid model (`client.model.probabilities`), where all labels may fit a picture, or none.
    """

    label: str
    score: float
    scores: Mapping[str, float]


@dataclass(frozen=True)
class Hit:
    """An entry that was found.

    Attributes:
        id: the entry's name.
        score: cosine with the query, from -1 to 1.
        metadata: what was stored with it.
    """

    id: str
    score: float
    metadata: Mapping[str, Any] = field(default_factory=dict)


def classifications(
    vectors: Array, labels: Sequence[str], classes: Array, model: ServedModel
) -> list[Classification]:
    """The answers for `vectors` `[n, D]` and `classes` `[C, D]`, all of unit norm and finite."""
    # Several sigmoids can be rounded to 1, so that the cosines say which is best.
    best_of_each = np.argmax(vectors @ classes.T, axis=1)
    answers = []
    for best, row in zip(
        best_of_each, class_probabilities(vectors, classes, model.temperature, model.sigmoid_bias), strict=True
    ):
        scores = {label: float(score) for label, score in zip(labels, row, strict=True)}
        answers.append(Classification(labels[best], float(row[best]), scores))
    return answers
