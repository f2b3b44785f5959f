"""What a model scores on each picture and text of a table, so that models can be compared item by item.

`N` pictures, `M` label texts, `C` classes, `D` embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protoclip.contract.errors import DataError
from protoclip.sources import Pairs

from .classify import class_names, class_numbers, template_texts, vectors_of, zero_shot
from .features import ImageFeatures
from .retrieval import image_to_text_ranks, text_to_image_ranks
from .subsets import Labels, label_texts

KS = (1, 5)


@dataclass(frozen=True)
class ItemScores:
    """One figure: its value is the mean of `values`.

    Attributes:
        values: `[n]`, one of each item that is asked; hits are 0 or 1, weighted ones any number from 0 on.
        groups: `[n]`, items that succeed and fail together; None: each for itself.
    """

    values: NDArray[np.float64]
    groups: NDArray[np.int64] | None

    @property
    def mean(self) -> float:
        return float(self.values.mean())


@dataclass(frozen=True)
class Measured:
    """One model on the table.

    Attributes:
        figures: by name, in the order in which they are shown.
        ranks: `[N]`, of each picture's own text, 0 is best.
        own: `[N]`, cosine of each picture and its own text.
        found: `[N]`, the label text that is nearest to each picture.
        found_cosines: `[N]`, its cosine.
    """

    figures: Mapping[str, ItemScores]
    ranks: NDArray[np.int64]
    own: NDArray[np.float32]
    found: NDArray[np.int64]
    found_cosines: NDArray[np.float32]


@dataclass(frozen=True)
class Asked:
    """The table that all models are measured on.

    Attributes:
        pairs: N rows, whose pictures all of them could read.
        labels: the M label texts, and which belongs to which row.
        class_columns: classified by, without training, from the classes' names.
        templates: set of templates that the names are put into.
    """

    pairs: Pairs
    labels: Labels
    class_columns: tuple[str, ...] = ()
    templates: str = "plain"

    @classmethod
    def of(cls, pairs: Pairs, group_column: str | None, class_columns: Sequence[str], templates: str) -> Asked:
        """Raises DataError where there is no such column, or it holds no value."""
        for column in class_columns:
            class_names([pairs], column)
        return cls(pairs, label_texts(pairs, group_column), tuple(class_columns), templates)

    def of_rows(self, rows: NDArray[np.int64], group_column: str | None) -> Asked:
        """The same asked of some of the rows."""
        return Asked.of(self.pairs.select(rows), group_column, self.class_columns, self.templates)

    def texts(self) -> list[str]:
        """All that a model has to embed: label texts, and class names in the templates."""
        named = [
            template_texts(class_names([self.pairs], column), self.templates) for column in self.class_columns
        ]
        return [*self.labels.texts, *(text for texts in named for text in texts.texts)]


def measure_items(
    images: ImageFeatures, asked: Asked, embed: Callable[[Sequence[str]], NDArray[np.float32]]
) -> Measured:
    """Retrieval in both directions and zero-shot classification, item by item.

    Args:
        images: a model's embeddings of the N pictures, `[N, D]`, unit norm.
        embed: its embeddings of texts, `[len(texts), D]`, unit norm.
    """
    vectors, labels = images.vectors, asked.labels
    texts = embed(labels.texts)
    ranks = image_to_text_ranks(vectors, texts, labels.owners)
    to_image = text_to_image_ranks(vectors, texts, labels.owners)
    figures = {f"picture → text R@{k}": ItemScores(_hits(ranks, k), labels.groups) for k in KS}
    figures |= {f"text → picture R@{k}": ItemScores(_hits(to_image, k), None) for k in KS}
    for column in asked.class_columns:
        figures |= _classified(vectors, asked, column, embed)
    found, found_cosines = _nearest(vectors, texts)
    own = np.einsum("nd,nd->n", vectors, texts[labels.owners])
    return Measured(figures, ranks, own, found, found_cosines)


def _nearest(
    vectors: NDArray[np.float32], texts: NDArray[np.float32], chunk: int = 1024
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The text that is nearest to each picture, and its cosine; memory is `chunk · M`."""
    found, cosines = np.empty(len(vectors), dtype=np.int64), np.empty(len(vectors), dtype=np.float32)
    for start in range(0, len(vectors), chunk):
        rows = slice(start, start + chunk)
        scores = vectors[rows] @ texts.T
        found[rows], cosines[rows] = scores.argmax(axis=1), scores.max(axis=1)
    return found, cosines


def per_class_weights(truth: NDArray[np.int64]) -> NDArray[np.float64]:
    """`[N]`, such that the mean of weighted hits is the mean over classes of each class's share: N / (C · N_c).

    C counts the classes that occur. The figure is scikit-learn's `balanced_accuracy_score`.
    """
    _, members, sizes = np.unique(truth, return_inverse=True, return_counts=True)
    return len(truth) / (len(sizes) * sizes[members.reshape(-1)].astype(np.float64))


def _classified(
    vectors: NDArray[np.float32], asked: Asked, column: str, embed: Callable[[Sequence[str]], NDArray[np.float32]]
) -> dict[str, ItemScores]:
    names = class_names([asked.pairs], column)
    numbers = class_numbers(asked.pairs, column, names)
    known = numbers >= 0
    texts = template_texts(names, asked.templates)
    predicted = zero_shot(vectors[known], vectors_of(texts, embed(texts.texts), len(names)))
    hits = (predicted == numbers[known]).astype(np.float64)
    groups = asked.labels.groups[known]
    return {
        f"zero-shot by {column}": ItemScores(hits, groups),
        f"zero-shot by {column}, mean per class": ItemScores(hits * per_class_weights(numbers[known]), groups),
    }


def _hits(ranks: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    return (ranks < k).astype(np.float64)


def readable_in_all(found: Sequence[ImageFeatures], num_rows: int) -> NDArray[np.int64]:
    """Rows whose pictures every model could read, ascending.

    Raises:
        DataError: there is none.
    """
    rows = np.arange(num_rows)
    for features in found:
        rows = np.intersect1d(rows, features.rows)
    if not len(rows):
        raise DataError("no picture could be read by all of the models")
    return rows


def of_rows(features: ImageFeatures, rows: NDArray[np.int64]) -> ImageFeatures:
    """The features of some of the rows that could be read."""
    return ImageFeatures(features.vectors[np.isin(features.rows, rows)], rows, ())
