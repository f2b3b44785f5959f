"""Embeds items with one model of a server; used by all methods of the client."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal

import numpy as np

from protoclip.contract.priorities import BULK, INTERACTIVE

from .batches import Batch, embed_batch, make_batches, run_in_order
from .deadline import Deadline, with_retries
from .discovery import ServedModel, find_model
from .errors import closed
from .inputs import image_bytes, text_bytes
from .priority import sent_with
from .results import Embeddings
from .transport import Transport

Role = Literal["image", "text"]

_PREPARE: dict[Role, Callable[[object], bytes]] = {"image": image_bytes, "text": text_bytes}


class Embedder:
    """Finds the model once, and sends batches of items to it, several at a time."""

    def __init__(
        self, transport: Transport, wanted: str | None, timeout_s: float | None, batch_size: int, concurrency: int
    ) -> None:
        self.transport = transport
        self._wanted = wanted
        self._timeout_s = timeout_s
        self._batch_size = batch_size
        self._concurrency = concurrency
        self._model: ServedModel | None = None
        self._start_threads()

    def deadline(self) -> Deadline:
        """A new time budget."""
        return Deadline(self._timeout_s, self.transport.url)

    def model(self, deadline: Deadline) -> ServedModel:
        """The model in use; asks the server the first time. Errors as `find_model`."""
        self._renew_after_fork()
        with self._lock:
            if self._model is None:
                self._model = find_model(self.transport, self._wanted, deadline)
            return self._model

    def stream(
        self, role: Role, items: Iterable[object], deadline: Deadline | None = None
    ) -> Iterator[Embeddings]:
        """Answers batch by batch, in order, under one deadline or, without one, with a new one for each batch.

        Requests without one deadline, and those that hold as many items as go into one, are marked as bulk.
        """
        model = self.model(deadline or self.deadline())
        batch_size = min(self._batch_size, model.max_batch_size, model.bulk_batch_size)
        batches = make_batches(items, _PREPARE[role], batch_size)
        name = model.image_model if role == "image" else model.text_model

        def send(batch: Batch) -> Embeddings:
            budget = deadline or self.deadline()
            with sent_with(BULK if deadline is None or batch.size >= max(batch_size, 2) else INTERACTIVE):
                return embed_batch(
                    batch,
                    model.embedding_dim,
                    lambda payloads: with_retries(
                        lambda left_s: self.transport.infer(name, role, payloads, left_s), budget, known=True
                    ),
                )

        def start(batch: Batch) -> Future[Embeddings]:
            try:
                return self._executor.submit(send, batch)
            except RuntimeError as error:
                raise closed(self.transport.url) from error

        yield from run_in_order(batches, start, self._concurrency)

    def collect(self, role: Role, items: Iterable[object], deadline: Deadline, stop: bool = False) -> Embeddings:
        """All of `stream`'s answers as one; with `stop`, the first bad item's ItemError is raised at once."""
        parts = []
        for part in self.stream(role, items, deadline):
            if stop and part.errors:
                raise part.errors[0]
            parts.append(part)
        empty = np.zeros((0, self.model(deadline).embedding_dim), dtype=np.float32)
        vectors = np.concatenate([empty, *(part.vectors for part in parts)])
        return Embeddings(vectors, tuple(error for part in parts for error in part.errors))

    def _start_threads(self) -> None:
        self._pid = os.getpid()
        self._executor = ThreadPoolExecutor(self._concurrency, thread_name_prefix="protoclip-client")
        self._lock = threading.Lock()

    def _renew_after_fork(self) -> None:
        """A forked process has none of the threads, and the lock as it was held at that moment."""
        if self._pid != os.getpid():
            self._start_threads()

    def close(self) -> None:
        """Ends all connections; running calls in other threads fail."""
        self.transport.close()
        # Queued batches are not cancelled: they fail one by one with our own error instead of CancelledError.
        self._executor.shutdown(wait=True)
