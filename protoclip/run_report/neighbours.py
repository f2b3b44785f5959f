"""The nearest neighbours of pictures. `N` pictures, `Q` of them are queries, `D` embedding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .contents import Neighbour, NeighbourPanel, Neighbours
from .embedded import Embedded, Vectors
from .mistakes import LABEL

_SHOWN = 6
_MOST_PANELS = 12


def nearest_others(vectors: Vectors, asked: NDArray[np.int64], k: int) -> tuple[NDArray[np.int64], Vectors]:
    """The `k` rows with the largest cosine to each query row, without that row itself.

    Among equal cosines the earlier row comes first.

    Args:
        vectors: `[N, D]`, unit norm.
        asked: `[Q]`, the query rows of `vectors`.
        k: at most N − 1.

    Returns:
        Rows and cosines, both `[Q, k]`, best first.

    Raises:
        ValueError: `k` does not fit, or a vector is not finite.
    """
    if not 1 <= k < len(vectors):
        raise ValueError(f"k={k} must lie between 1 and {len(vectors) - 1}, the number of other pictures")
    if not np.isfinite(vectors).all():
        raise ValueError("a vector is not finite")
    cosines = vectors[asked] @ vectors.T
    cosines[np.arange(len(asked)), asked] = -np.inf
    rows = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    return rows, np.take_along_axis(cosines, rows, axis=1)


def middle_rows(rows: NDArray[np.int64], classes: NDArray[np.generic]) -> list[int]:
    """One of `rows` for every class, classes in the order of their names: the middle one in order of rows.

    Args:
        rows: `[Q]`, indices into `classes`.
        classes: `[N]`, the class of every row.
    """
    names = classes[rows].astype(str)
    return [int(own[len(own) // 2]) for name in np.unique(names) if len(own := np.sort(rows[names == name]))]


def show_neighbours(corpus: Embedded, asked: NDArray[np.bool_], class_column: str | None) -> Neighbours | None:
    """The nearest pictures of one query picture per class, and how often the nearest is right over all queries.

    Right means of the same group: another picture of the same thing; queries without one are not counted.
    None without queries or without other pictures to find.

    Args:
        corpus: N pictures, everything that can be found.
        asked: `[N]`, which of them are queries.
        class_column: one query picture of each of its classes is shown, of evenly spaced ones where there are
            many; None: the label texts are the classes.

    Raises:
        DataError: there is no such column, or a picture can't be read.
    """
    rows = np.flatnonzero(asked)
    if not len(rows) or len(corpus) < 2:
        return None
    found, cosines = nearest_others(corpus.image_vectors, rows, min(_SHOWN, len(corpus) - 1))
    groups = corpus.labels.groups
    has_others = np.bincount(groups)[groups[rows]] > 1
    places = {int(row): place for place, row in enumerate(rows)}
    classes = corpus.classes(class_column)
    shown = _evenly(middle_rows(rows, classes), _MOST_PANELS)
    return Neighbours(
        panels=tuple(
            _panel(corpus, row, str(classes[row]), found[places[row]], cosines[places[row]]) for row in shown
        ),
        column=class_column or LABEL,
        num_asked=int(has_others.sum()),
        num_pictures=len(corpus),
        num_right=int((groups[found[:, 0]] == groups[rows])[has_others].sum()),
    )


def _evenly(rows: Sequence[int], most: int) -> list[int]:
    return [rows[place] for place in np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int)]


def _panel(
    corpus: Embedded, row: int, kind: str, found: Sequence[np.int64] | NDArray[np.int64], cosines: Vectors
) -> NeighbourPanel:
    groups = corpus.labels.groups
    return NeighbourPanel(
        picture=corpus.pairs.read_image(row),
        label=corpus.label(row),
        kind=kind,
        num_same=int((groups == groups[row]).sum()) - 1,
        found=tuple(
            Neighbour(
                picture=corpus.pairs.read_image(int(other)),
                label=corpus.label(int(other)),
                cosine=float(cosine),
                same=bool(groups[other] == groups[row]),
            )
            for other, cosine in zip(found, cosines, strict=True)
        ),
    )
