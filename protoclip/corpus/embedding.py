"""The vectors of one part after the other, through one stream of batches. `n` items of a part, `D` embedding."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protoclip.client import Embeddings
from protoclip.contract.errors import ServerError

from .plan import Items, Plan


@dataclass(frozen=True)
class EmbeddedPart:
    """A part's items.

    Attributes:
        part: its number.
        names: `[n]`.
        vectors: `[n, D]` float32, unit norm; NaN where the item has a reason.
        reasons: `[n]`, why an item has no vector; None where it has one.
    """

    part: int
    names: list[str]
    vectors: NDArray[np.float32]
    reasons: list[str | None]

    @property
    def num_failed(self) -> int:
        """Items without a vector."""
        return sum(reason is not None for reason in self.reasons)


def embed_parts(
    items: Items,
    parts: Sequence[int],
    plan: Plan,
    stream: Callable[[Iterable[Any]], Iterator[Embeddings]],
    embedding_dim: int,
) -> Iterator[EmbeddedPart]:
    """The parts in the given order. Batches go on over their borders, so that no request waits for a file.

    Args:
        stream: embeds items in batches, in order; such as `Client.stream_images`.

    Raises:
        ServerError: a batch is of another model than the plan: the client follows an alias that has moved.
    """
    rows = (row for part in parts for row in plan.rows(part))
    batches = stream(items.item(row) for row in rows if items.reason(row) is None)
    answers = _one_by_one(batches, plan)
    for part in parts:
        names, reasons = [], []
        vectors = np.full((len(plan.rows(part)), embedding_dim), np.nan, dtype=np.float32)
        for place, row in enumerate(plan.rows(part)):
            reason = items.reason(row)
            if reason is None:
                vectors[place], reason = next(answers)
            names.append(items.name(row))
            reasons.append(reason)
        yield EmbeddedPart(part, names, vectors, reasons)


def _one_by_one(batches: Iterator[Embeddings], plan: Plan) -> Iterator[tuple[NDArray[np.float32], str | None]]:
    for batch in batches:
        if batch.fingerprint != plan.fingerprint:
            raise ServerError(
                f"the client asks another model meanwhile, with the fingerprint {batch.fingerprint}; the output "
                f"was begun with {plan.model} ({plan.fingerprint}): go on with a client with model={plan.model!r}"
            )
        reasons = {error.position - batch.start: error.reason for error in batch.errors}
        for row, vector in enumerate(batch.vectors):
            yield vector, reasons.get(row)
