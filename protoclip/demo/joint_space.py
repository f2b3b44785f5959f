"""What the report shows of the joint space, from the vectors that the server gave."""

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
    """Parts of the report; one that is none is left out."""

    space: EmbeddingMap | None = None
    neighbours: Neighbours | None = None
    mistakes: Mistakes | None = None


def make_views(
    corpus: Embedded, *, split_column: str, shown_split: str, asked_split: str, class_columns: Sequence[str]
) -> Views:
    """The map and the mistakes of one part, and the neighbours of another's pictures in everything.

    Args:
        corpus: everything that was embedded.
        split_column: names the parts.
        shown_split: the part of the map and of the mistakes.
        asked_split: the part whose pictures are asked for their neighbours.
        class_columns: the first colours and spreads, the last is what mistakes confuse.

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
