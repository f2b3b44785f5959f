"""The protocol's main measures picture by picture, so that concepts can be drawn anew.

`N` pictures, `D` embedding. What is measured, and by which functions, is what `protoclip evaluate` measures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protoclip.evaluation.classify import (
    MEMBERS,
    class_names,
    class_numbers,
    member_texts,
    template_texts,
    vectors_of,
    zero_shot,
)
from protoclip.evaluation.features import MeasuredModel, embed_texts, extract_images
from protoclip.evaluation.probes import fit_linear
from protoclip.evaluation.retrieval import image_to_text_ranks
from protoclip.evaluation.subsets import label_texts
from protoclip.sources import Pairs


@dataclass(frozen=True)
class Items:
    """One measure: whether each picture [N] was right, and the concept that it shows."""

    hits: NDArray[np.bool_]
    concepts: NDArray[np.str_]

    @property
    def percent(self) -> float:
        return 100 * float(self.hits.mean())

    def by_concept(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Right pictures and all pictures of each concept, in the order of the concepts' names."""
        _, members = np.unique(self.concepts, return_inverse=True)
        right = np.bincount(members, weights=self.hits).astype(int)
        return tuple(right.tolist()), tuple(np.bincount(members).tolist())


@dataclass(frozen=True)
class Parts:
    """Training pictures that have a class, pictures of unseen concepts, and classed pictures of unseen styles."""

    train: Pairs
    concepts: Pairs
    styles: Pairs


@dataclass(frozen=True)
class Found:
    """The four measures in the protocol's order, and the number of texts that recall is among."""

    items: tuple[Items, Items, Items, Items]
    num_texts: int


def measure_parts(model: MeasuredModel, parts: Parts, *, group_column: str, class_column: str, way: str) -> Found:
    """Embeds the parts, and measures; pictures that can't be read are left out.

    Args:
        way: `members`, class vectors from the texts of a class's training pictures, or a set of templates.

    Raises:
        DataError: no picture of a part can be read, or a column is missing.
        ModelError: an embedding is not finite.
    """
    at_1, at_5, num_texts = _recall(model, parts.concepts, group_column)
    names = class_names([parts.train, parts.concepts, parts.styles], class_column)
    train, features = _embedded(model, parts.train)
    styles, vectors = _embedded(model, parts.styles)
    numbers, truth = (class_numbers(pairs, class_column, names) for pairs in (train, styles))
    texts = member_texts(train, numbers, group_column) if way == MEMBERS else template_texts(names, way)
    centres = vectors_of(texts, embed_texts(model, list(texts.texts)), len(names))
    groups = label_texts(train, group_column).groups
    probe = fit_linear(features, numbers, groups, len(names), seed=0)
    shown = styles.column(group_column).astype(str)
    by_name, by_probe = (
        Items(found == truth, shown) for found in (zero_shot(vectors, centres), probe.predict(vectors))
    )
    return Found((at_1, at_5, by_name, by_probe), num_texts)


def _recall(model: MeasuredModel, pairs: Pairs, group_column: str) -> tuple[Items, Items, int]:
    """At 1, at 5, and among how many texts."""
    good, vectors = _embedded(model, pairs)
    labels = label_texts(good, group_column)
    ranks = image_to_text_ranks(vectors, embed_texts(model, list(labels.texts)), labels.owners)
    shown = good.column(group_column).astype(str)
    return Items(ranks < 1, shown), Items(ranks < 5, shown), len(labels.texts)


def _embedded(model: MeasuredModel, pairs: Pairs) -> tuple[Pairs, NDArray[np.float32]]:
    found = extract_images(model, pairs)
    return pairs if len(found.rows) == len(pairs) else pairs.select(found.rows), found.vectors
