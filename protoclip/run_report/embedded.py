"""Pairs with their embeddings from the served model. `N` pictures, `M` texts, `D` embedding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protoclip.evaluation.subsets import Labels
from protoclip.sources import Pairs

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Embedded:
    """Pictures and their label texts with their vectors.

    Attributes:
        pairs: N rows.
        image_vectors: `[N, D]`, unit norm.
        labels: the M label texts, and which belongs to which row.
        text_vectors: `[M, D]`, unit norm.
    """

    pairs: Pairs
    image_vectors: Vectors
    labels: Labels
    text_vectors: Vectors

    def __len__(self) -> int:
        return len(self.pairs)

    def label(self, row: int) -> str:
        """The label text of a row."""
        return self.labels.texts[self.labels.owners[row]]

    def classes(self, column: str | None) -> NDArray[np.str_]:
        """`[N]`: the values of a column, or the label texts where none is named.

        Raises:
            DataError: there is no such column.
        """
        if column is None:
            return np.array([self.label(row) for row in range(len(self))], dtype=np.str_)
        return self.pairs.column(column).astype(np.str_)

    def text_rows(self) -> NDArray[np.int64]:
        """`[M]`: for each text the first row that it belongs to."""
        return np.unique(self.labels.owners, return_index=True)[1].astype(np.int64)

    def select(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Embedded:
        """Some of the rows, and of the texts those that belong to them."""
        used, owners = np.unique(self.labels.owners[rows], return_inverse=True)
        texts = tuple(self.labels.texts[text] for text in used)
        labels = Labels(texts, owners.astype(np.int64), self.labels.groups[rows])
        return Embedded(self.pairs.select(rows), self.image_vectors[rows], labels, self.text_vectors[used])
