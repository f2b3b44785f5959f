"""The model's worst mistakes: pictures whose own text ranks worst, and classes that it confuses.

`N` pictures, `M` texts.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from protoclip.evaluation.retrieval import image_to_text_ranks

from .contents import Confusion, Mistake, Mistakes
from .embedded import Embedded

_SHOWN_ANSWERS = 3
LABEL = "text"
"""What stands for a class column where there is none."""


def worst_rows(
    ranks: NDArray[np.int64], own_cosines: NDArray[np.floating], classes: NDArray[np.generic], count: int
) -> list[int]:
    """The row with the worst rank of every class, worst first; right answers are left out.

    Among equal ranks the one with the lower cosine to its own text comes first, then the earlier row.

    Args:
        ranks: `[N]`, 0 is right.
        own_cosines: `[N]`, of each picture with its own text.
        classes: `[N]`; one row per class, so that no class fills the page.
        count: how many at most.
    """
    order = np.lexsort((np.arange(len(ranks)), own_cosines, -ranks))
    worst: dict[str, int] = {}
    for row in order[ranks[order] > 0]:
        worst.setdefault(str(classes[row]), int(row))
    return list(worst.values())[:count]


def confusions(true: NDArray[np.generic], found: NDArray[np.generic], count: int) -> list[Confusion]:
    """The most frequent pairs of different classes, then by name.

    Args:
        true: `[N]`, the class of each picture.
        found: `[N]`, the class of what was found for it.
        count: how many at most.
    """
    pairs = Counter((str(own), str(other)) for own, other in zip(true, found, strict=True))
    sizes = Counter(str(own) for own in true)
    wrong = sorted((-times, pair) for pair, times in pairs.items() if pair[0] != pair[1])
    return [Confusion(own, other, -times, sizes[own]) for times, (own, other) in wrong[:count]]


def show_mistakes(
    part: Embedded, class_column: str | None, *, num_worst: int = 12, num_confusions: int = 10
) -> Mistakes | None:
    """The worst picture of every class, and the most confused classes by the text that is found first.

    Ranks are those of the evaluation's retrieval: a tie counts against the picture. None without pictures.

    Args:
        part: N pictures and the M texts to choose from.
        class_column: what is confused; None: the label texts.
        num_worst: pictures at most.
        num_confusions: pairs of classes at most.

    Raises:
        DataError: there is no such column, or a picture can't be read.
        ValueError: a vector is not finite.
    """
    if not len(part):
        return None
    owners = part.labels.owners
    ranks = image_to_text_ranks(part.image_vectors, part.text_vectors, owners)
    own_cosines = np.einsum("nd,nd->n", part.image_vectors, part.text_vectors[owners])
    classes = part.classes(class_column)
    found = classes[part.text_rows()][_first_texts(part)]
    return Mistakes(
        worst=tuple(_mistake(part, row, ranks) for row in worst_rows(ranks, own_cosines, classes, num_worst)),
        confusions=tuple(confusions(classes, found, num_confusions)),
        column=class_column or LABEL,
        num_pictures=len(part),
        num_texts=len(part.labels.texts),
        num_right=int((ranks == 0).sum()),
        num_other_class=int((classes != found).sum()),
    )


def _first_texts(part: Embedded) -> NDArray[np.int64]:
    return (part.image_vectors @ part.text_vectors.T).argmax(axis=1).astype(np.int64)


def _mistake(part: Embedded, row: int, ranks: NDArray[np.int64]) -> Mistake:
    cosines = part.text_vectors @ part.image_vectors[row]
    best = np.argsort(-cosines, kind="stable")[:_SHOWN_ANSWERS]
    return Mistake(
        picture=part.pairs.read_image(row),
        label=part.label(row),
        rank=int(ranks[row]) + 1,
        cosine=float(cosines[part.labels.owners[row]]),
        found=tuple((part.labels.texts[text], float(cosines[text])) for text in best),
    )
