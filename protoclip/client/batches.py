"""Embeds a stream of items in order, in batches limited in items and bytes, a limited number of them at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

import numpy as np

from protoclip.contract.errors import ItemError, ServerError

from .errors import BadItem, Refused
from .results import Embeddings
from .transport import Answer

BATCH_BYTES = 32 * 1024 * 1024


@dataclass
class Batch:
    """Consecutive items of a stream, the bad ones separate.

    Attributes:
        start: position in the stream of the first item.
        size: number of items, good and bad.
        rows: place within the batch of each payload.
        payloads: the bytes that are sent.
        errors: of the items that can't be sent, with positions in the stream.
        is_lone: whether it is known to hold all items of the stream.
    """

    start: int
    size: int = 0
    num_bytes: int = 0
    rows: list[int] = field(default_factory=list)
    payloads: list[bytes] = field(default_factory=list)
    errors: list[ItemError] = field(default_factory=list)
    is_lone: bool = False

    def add(self, payload: bytes) -> None:
        """Appends a good item."""
        self.rows.append(self.size)
        self.payloads.append(payload)
        self.num_bytes += len(payload)
        self.size += 1

    def add_error(self, reason: str) -> None:
        """Appends a bad item."""
        self.errors.append(ItemError(self.start + self.size, reason))
        self.size += 1


@dataclass(frozen=True)
class Sent:
    """A batch under way: `wait` gives the answer of `future`, or raises what it has to."""

    future: Future[Embeddings]
    wait: Callable[[], Embeddings]

    @classmethod
    def done(cls, answer: Embeddings) -> Sent:
        """One that is answered already."""
        future: Future[Embeddings] = Future()
        future.set_result(answer)
        return cls(future, future.result)


def make_batches(items: Iterable[object], prepare: Callable[[object], bytes], batch_size: int) -> Iterator[Batch]:
    """Batches of at most `batch_size` items and about 32 MiB, made lazily."""
    batch = Batch(0)
    for item in items:
        if batch.size == batch_size or batch.num_bytes >= BATCH_BYTES:
            yield batch
            batch = Batch(batch.start + batch.size)
        try:
            batch.add(prepare(item))
        except BadItem as error:
            batch.add_error(str(error))
    batch.is_lone = not batch.start
    if batch.size:
        yield batch


def run_in_order(
    batches: Iterable[Batch],
    start: Callable[[Batch], Sent],
    concurrency: int,
) -> Iterator[Embeddings]:
    """Starts up to `concurrency` batches at once and yields their answers in order.

    One more batch is prepared meanwhile; no more are read from `batches` before an answer is consumed.
    """
    under_way: deque[Sent] = deque()
    try:
        for batch in batches:
            under_way.append(start(batch))
            if len(under_way) > concurrency:
                yield under_way.popleft().wait()
        while under_way:
            yield under_way.popleft().wait()
    finally:
        for sent in under_way:
            sent.future.cancel()


def embed_batch(
    batch: Batch, embedding_dim: int, infer: Callable[[list[bytes]], Answer], *, judged: bool = False
) -> Embeddings:
    """One batch through `infer`; rows of bad items are NaN.

    With `judged` the answers say of good items whether they are known.

    Raises:
        ServerError: the answer has another size, or isn't finite for a good item; what `infer` raises, except
            Refused for a single item, which is the item's own error.
    """
    vectors = np.full((batch.size, embedding_dim), np.nan, dtype=np.float32)
    known, scores = np.zeros(batch.size, dtype=np.bool_), np.full(batch.size, np.nan, dtype=np.float32)
    errors = list(batch.errors)
    if batch.payloads:
        answer = _single_refusal_to_error(batch.payloads, embedding_dim, infer)
        for row, vector, reason in zip(batch.rows, answer.embeddings, answer.errors, strict=True):
            if reason:
                errors.append(ItemError(batch.start + row, reason))
            elif vector.shape != (embedding_dim,) or not np.isfinite(vector).all():
                raise ServerError(
                    f"the server's answer for item {batch.start + row} isn't {embedding_dim} finite numbers"
                )
            else:
                vectors[row] = vector
        if answer.known is not None and answer.known_scores is not None:
            known[batch.rows], scores[batch.rows] = answer.known, answer.known_scores
    embedded = Embeddings(vectors, tuple(sorted(errors, key=lambda error: error.position)), batch.start)
    return replace(embedded, known=known, known_scores=scores) if judged else embedded


def _single_refusal_to_error(payloads: list[bytes], dim: int, infer: Callable[[list[bytes]], Answer]) -> Answer:
    try:
        return infer(payloads)
    except Refused as error:
        if len(payloads) > 1:
            raise
        return Answer(np.zeros((1, dim), dtype=np.float32), (error.reason,))
