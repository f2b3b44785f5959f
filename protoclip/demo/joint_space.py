"""The report's views of the joint space, from the vectors that the server returned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .embedded import Embedded
from .embedding_map import EmbeddingMap, draw_map
from .mistakes import show_mistakes
from .neighbours import show_neighbours
from .report_contents import Mistakes, Neighbours


@dataclass(frozen=True)
class Views:
    """Parts of the report; one that is None is left out."""

    space: EmbeddingMap | None = None
    neighbours: Neighbours | None = None
    mistakes: Mistakes | None = None


def make_views(
    corpus: Embedded, *, split_column: str, shown_split: str, asked_split: str, class_columns: Sequence[str]
) -> Views:
    """The map and the mistakes of one split, and the neighbours of another split's pictures in the whole corpus.

    Args:
        corpus: everything that was embedded.
        split_column: the column of the splits.
        shown_split: the split of the map and of the mistakes.
        asked_split: the split whose pictures are the queries for neighbours.
        class_columns: the first colours the map and selects the queries, the last is that of the mistakes.

    Raises:
        DataError: a column is missing, or a picture can't be read.
        ValueError: a vector is not finite.
    """
    splits = corpus.pairs.column(split_column)
    shown = corpus.select(splits == shown_split)
    return Views(
        space=draw_map(shown, class_columns[0]),
        neighbours=show_neighbours(corpus, splits == asked_split, class_columns[0]),
        mistakes=show_mistakes(shown, class_columns[-1]),
    )
