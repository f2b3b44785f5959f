"""What is written of a part, as Arrow tables. `n` items, `D` embedding."""

from __future__ import annotations

from typing import Any

import numpy as np

from protoclip.client import ClassBank, ServedModel
from protoclip.client.classification import Choice, best_places, fitting_places, scored

from .embedding import EmbeddedPart


def embeddings_table(part: EmbeddedPart) -> Any:
    """`id`, `vector` (D float32, of unit norm) and `error`, a row an item; NaN where there is an error.

    Arrow's lists of a fixed size come back from Parquet as they are, unless one of them is null.
    """
    import pyarrow as pa

    vectors = pa.FixedSizeListArray.from_arrays(pa.array(part.vectors.ravel()), part.vectors.shape[1])
    columns = {"id": _texts(part.names), "vector": vectors, "error": _texts(part.reasons)}
    return pa.table(columns)


def answers_table(part: EmbeddedPart, classes: ClassBank, model: ServedModel, choice: Choice) -> Any:
    """A row for each label of a picture's answer, best first, and `rank` from 1.

    The others are `picture`, `label`, `probability`, `cosine`.
    A picture without an answer has one row, with `error`, and one that no label fits (`choice.multi_label`) one
    with `rank` 0 and nothing else. `probability` is null where there is none.
    """
    import pyarrow as pa

    rows = _Rows()
    _add_answers(rows, part, classes, model, choice)
    return pa.table(
        {
            "picture": _texts(rows.pictures),
            "rank": pa.array(rows.ranks, pa.int32()),
            "label": _texts(rows.labels),
            "probability": pa.array(rows.probabilities, pa.float32()),
            "cosine": pa.array(rows.cosines, pa.float32()),
            "error": _texts(rows.errors),
        }
    )


class _Rows:
    def __init__(self) -> None:
        self.pictures: list[str] = []
        self.ranks: list[int | None] = []
        self.labels: list[str | None] = []
        self.probabilities: list[float | None] = []
        self.cosines: list[float | None] = []
        self.errors: list[str | None] = []

    def add(
        self,
        picture: str,
        rank: int | None = None,
        label: str | None = None,
        probability: float | None = None,
        cosine: float | None = None,
        error: str | None = None,
    ) -> None:
        self.pictures.append(picture)
        self.ranks.append(rank)
        self.labels.append(label)
        self.probabilities.append(probability)
        self.cosines.append(cosine)
        self.errors.append(error)


def _add_answers(rows: _Rows, part: EmbeddedPart, classes: ClassBank, model: ServedModel, choice: Choice) -> None:
    good = [place for place, reason in enumerate(part.reasons) if reason is None]
    found = scored(part.vectors[good], classes, model, choice)
    for name, reason in zip(part.names, part.reasons, strict=True):
        if reason is not None:
            rows.add(name, error=reason)
            continue
        one = next(found)
        best = fitting_places(one.cosines, choice) if choice.multi_label else _best(one.cosines, choice)
        if not len(best):
            rows.add(name, 0)
        for rank, number in enumerate(best.tolist(), start=1):
            probability = None if one.probabilities is None else float(one.probabilities[number])
            rows.add(name, rank, classes.labels[number], probability, float(one.cosines[number]))


def _best(cosines: np.ndarray[Any, np.dtype[np.float32]], choice: Choice) -> np.ndarray[Any, np.dtype[np.int64]]:
    return best_places(cosines, min(choice.top_k or 1, len(cosines)))


def _texts(values: list[Any]) -> Any:
    """An Arrow column; a name that is not UTF-8 has its bytes as \\udcff and the like."""
    import pyarrow as pa

    return pa.array([value if value is None else _utf8(value) for value in values], pa.string())


def _utf8(value: str) -> str:
    return value.encode("utf-8", "backslashreplace").decode("utf-8")
