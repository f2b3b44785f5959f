"""The client's results. `n` items, `D` embedding."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protoclip.contract.errors import ItemError

from .model_vectors import of_model
from .transport import Array


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Vectors, and the errors of single items.

    Attributes:
        vectors: `[n, D]` (`[D]` for a single item), float32, unit norm; NaN where the item was bad.
        errors: one for each bad item, by position.
        start: position of the first row in the stream; 0 outside of a stream.
        fingerprint: of the model that made them; an index of another model refuses them.
        known: `[n]`, where the model's detector was asked; False where the item was bad.
        known_scores: `[n]` float32, of the detector; NaN where the item was bad.
    """

    vectors: Array
    errors: tuple[ItemError, ...] = ()
    start: int = 0
    fingerprint: str = ""
    known: NDArray[np.bool_] | None = None
    known_scores: Array | None = None


def made_by(embeddings: Embeddings, fingerprint: str) -> Embeddings:
    """The same, with the model that made them."""
    return replace(embeddings, vectors=of_model(embeddings.vectors, fingerprint), fingerprint=fingerprint)


@dataclass(frozen=True)
class Detection:
    """Whether one picture is of a known kind.

    Attributes:
        known: whether `score` reaches the detector's threshold.
        score: higher for what is known; its scale is the kind's own.
        reason: one line that says so, with both numbers.
    """

    known: bool
    score: float
    reason: str


@dataclass(frozen=True)
class Classification:
    """The answer for one picture.

    Attributes:
        label: the label with the largest cosine, which is the most probable one.
        score: its probability; NaN with multi_label=True, except for a sigmoid model.
        scores: probability of every label, in the order in which the labels were given; with `top_k` of the best
            `k` alone, best first. All of them sum to 1, except for a sigmoid model (`client.model.probabilities`),
            where all labels may fit a picture, or none. Empty where `score` is NaN.
        cosine: between the picture and `label`, from -1 to 1.
        cosines: as `scores`, and never empty.
        labels: the label; with multi_label=True those whose cosine is the threshold or more, best first, or none.
        known: with a detector, whether the picture is of a known kind at all; None without one, or without a
            threshold in it.
        known_score: the detector's score, higher for what is known; NaN without one.
        reason: the detector's reason, in one line; empty without one.
    """

    label: str
    score: float
    scores: Mapping[str, float]
    cosine: float = math.nan
    cosines: Mapping[str, float] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    known: bool | None = None
    known_score: float = math.nan
    reason: str = ""


@dataclass(frozen=True)
class Hit:
    """An entry that was found.

    Attributes:
        id: the entry's name.
        score: cosine with the query, from -1 to 1.
        metadata: what was stored with it.
        relevance: the probability that it is what was asked for, where `min_relevance` was given; otherwise None.
    """

    id: str
    score: float
    metadata: Mapping[str, Any] = field(default_factory=dict)
    relevance: float | None = None
