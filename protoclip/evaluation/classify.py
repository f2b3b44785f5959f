"""Classification of a subset's pictures: several variants of zero-shot, and probes on the features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from protoclip.contract.errors import DataError
from protoclip.contract.zero_shot import class_vectors, fill_templates
from protoclip.sources import Pairs

from .probes import LinearProbe, NeighbourProbe, fit_linear, fit_neighbours
from .subsets import Labels, label_texts

Vectors = NDArray[np.float32]

MEMBERS = "members"
"""The zero-shot variant in which a class vector is the mean of its training members' label texts."""


@dataclass(frozen=True)
class ClassTexts:
    """The texts that describe the `C` classes in one variant of zero-shot classification.

    Attributes:
        texts: all of them, those of one class next to each other.
        owners: `[len(texts)]`, the class of each.
    """

    texts: tuple[str, ...]
    owners: NDArray[np.int64]


@dataclass(frozen=True)
class Classes:
    """The `C` classes of one column, and the probes fitted on them, where there are any."""

    column: str
    names: tuple[str, ...]
    vectors: Mapping[str, Vectors]
    """By zero-shot variant: `[C, D]`; a class without texts has a row of NaN."""
    linear: LinearProbe | None = None
    neighbours: NeighbourProbe | None = None
    few_shot: Mapping[int, tuple[LinearProbe, ...]] = field(default_factory=dict)
    """By number of pictures of each class: a probe for each draw of them."""


def class_names(tables: Sequence[Pairs], column: str) -> tuple[str, ...]:
    """The distinct values of a column over all tables, sorted; empty values are no class.

    Raises:
        DataError: a table lacks the column, or it holds no value at all.
    """
    names = {str(value) for pairs in tables for value in pairs.column(column).tolist()} - {""}
    if not names:
        raise DataError(f"column {column!r} is empty: name another class column")
    return tuple(sorted(names))


def class_numbers(pairs: Pairs, column: str, names: Sequence[str]) -> NDArray[np.int64]:
    """Index in `names` of each row's class: `[N]`, −1 where it has none."""
    places = {name: place for place, name in enumerate(names)}
    return np.array([places.get(str(value), -1) for value in pairs.column(column).tolist()], dtype=np.int64)


def spoken(name: str) -> str:
    """A class name as words: `face-smiling` → `face smiling`."""
    return " ".join(name.replace("-", " ").replace("_", " ").split())


def template_texts(names: Sequence[str], templates: str) -> ClassTexts:
    """The class names in a set of templates.

    Raises:
        ConfigError: there is no such set.
    """
    filled = fill_templates([spoken(name) for name in names], templates)
    owners = np.repeat(np.arange(len(names)), [len(texts) for texts in filled])
    return ClassTexts(tuple(text for texts in filled for text in texts), owners)


def member_texts(train: Pairs, numbers: NDArray[np.int64], group_column: str | None) -> ClassTexts:
    """The label texts of the training groups, each under its class; `numbers` [N] are the rows' classes."""
    labels: Labels = label_texts(train, group_column)
    pairs = np.unique(np.stack([numbers, labels.owners], axis=1)[numbers >= 0], axis=0)
    return ClassTexts(tuple(labels.texts[owner] for owner in pairs[:, 1]), pairs[:, 0])


def vectors_of(texts: ClassTexts, text_vectors: Vectors, num_classes: int) -> Vectors:
    """Class vectors `[C, D]` from the embeddings `[len(texts), D]`; NaN where a class has no text."""
    vectors = class_vectors(text_vectors, texts.owners, num_classes)
    vectors[np.bincount(texts.owners, minlength=num_classes) == 0] = np.nan
    return vectors


def zero_shot(image_vectors: Vectors, vectors: Vectors) -> NDArray[np.int64]:
    """The nearest class of each picture by cosine: `[N]`; classes with NaN vectors are never chosen.

    Args:
        image_vectors: `[N, D]`, unit norm.
        vectors: `[C, D]`, unit norm.
    """
    cosines = image_vectors @ vectors.T
    return np.asarray(np.where(np.isnan(cosines), -np.inf, cosines).argmax(axis=1), dtype=np.int64)


def fit_probes(
    features: Vectors,
    numbers: NDArray[np.int64],
    groups: NDArray[np.int64],
    column: str,
    num_classes: int,
    seed: int,
) -> tuple[LinearProbe, NeighbourProbe]:
    """Both probes on the training pictures that have a class.

    Raises:
        DataError: too few groups or classes among them to fit the probes and choose their settings.
    """
    known = numbers >= 0
    data = (features[known], numbers[known], groups[known], num_classes)
    try:
        return fit_linear(*data, seed=seed), fit_neighbours(*data, seed=seed)
    except ValueError as error:
        raise DataError(f"column {column!r}: the training pairs can't fit a probe: {error}") from error
