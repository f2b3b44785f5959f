"""The page's views of the joint space, from vectors of a run's or a server's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .contents import Mistakes, Neighbours
from .embedded import Embedded
from .embedding_map import EmbeddingMap, draw_map
from .mistakes import show_mistakes
from .neighbours import show_neighbours


@dataclass(frozen=True)
class Views:
    """Parts of the page; one that is None is left out.

    Attributes:
        space: the map of the shown pictures.
        neighbours: of the pictures that were asked for.
        mistakes: among the shown pictures.
        shown: what the page calls the shown pictures, as the beginning of a sentence.
        asked: the same of those whose neighbours are shown.
        among: what the page calls all that a neighbour is found among.
    """

    space: EmbeddingMap | None = None
    neighbours: Neighbours | None = None
    mistakes: Mistakes | None = None
    shown: str = ""
    asked: str = ""
    among: str = ""


def make_views(
    corpus: Embedded,
    shown: NDArray[np.bool_],
    asked: NDArray[np.bool_],
    *,
    class_columns: Sequence[str],
    names: tuple[str, str, str],
) -> Views:
    """The map and the mistakes of some pictures, and the neighbours of some in all.

    Args:
        corpus: everything that was embedded, N pictures.
        shown: `[N]`, pictures of the map and of the mistakes.
        asked: `[N]`, the queries for neighbours.
        class_columns: the first colours the map and selects the queries, the last is that of the mistakes; without
            any the map has one colour, and what is confused are the label texts.
        names: `shown`, `asked` and `among` of the views.

    Raises:
        DataError: a column is missing, or a picture can't be read.
        ValueError: a vector is not finite.
    """
    part = corpus.select(shown)
    first, last = (class_columns[place] if class_columns else None for place in (0, -1))
    return Views(draw_map(part, first), show_neighbours(corpus, asked, first), show_mistakes(part, last), *names)
