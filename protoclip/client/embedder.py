"""Embeds items with one model of a server; used by all methods of the client."""

from __future__ import annotations

import os
import random
import threading
import warnings
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, get_args

from protoclip.contract.errors import ConfigError
from protoclip.contract.priorities import BULK, INTERACTIVE

from .batches import Batch, Sent, embed_batch, make_batches, run_in_order
from .deadline import Deadline, with_retries
from .discovery import ServedModel, find_fingerprint, find_model
from .errors import ModelNotFound, SeveralModels, closed
from .inputs import image_bytes, text_bytes
from .judged import check_has_detector, infer_judged
from .own_pixels import OwnPixels, PixelsDiffer, Preprocess, agree_on_pixels
from .priority import sent_with
from .results import Embeddings, made_by
from .transport import Answer, Transport

Role = Literal["image", "text"]
Ask = Callable[[list[bytes], Deadline], Answer]

_PREPARE: dict[Role, Callable[[object], bytes]] = {"image": image_bytes, "text": text_bytes}


class Embedder:
    """Finds the model once, and sends batches of items to it, several at a time."""

    def __init__(
        self,
        transport: Transport,
        wanted: str | None,
        batch_size: int,
        concurrency: int,
        preprocess: Preprocess,
        *,
        canary: bool = True,
    ) -> None:
        """Raises ConfigError for an unknown `preprocess`."""
        if preprocess not in get_args(Preprocess):
            raise ConfigError(
                f"preprocess={preprocess!r} is unknown: use {', '.join(map(repr, get_args(Preprocess)))}"
            )
        self.transport = transport
        self.known_model: ServedModel | None = None
        self._wanted = wanted
        # Drawn once: a client that changed between canary and current would compare vectors of two models.
        self._draw = random.random() if canary else 1.0
        self._others: dict[str, ServedModel] = {}
        self._batch_size = batch_size
        self._concurrency = concurrency
        self._preprocess = preprocess
        self._own_pixels: dict[str, OwnPixels | None] = {}
        self._start_threads()

    def model(self, deadline: Deadline) -> ServedModel:
        """The model in use; asks the server the first time. Errors as `find_model`."""
        self._renew_after_fork()
        if self.known_model is None:
            with deadline.holding(self._lock):
                if self.known_model is None:
                    self.known_model = find_model(self.transport, self._wanted, deadline, draw=self._draw)
        return self.known_model

    def follow(self, deadline: Deadline) -> ServedModel:
        """Asks the server again which model is meant, and uses that from now on. Errors as `find_model`."""
        self._renew_after_fork()
        with deadline.holding(self._lock):
            # Also where the server has several: those of indexes and class banks are asked for again.
            self._others.clear()
            self._own_pixels.clear()
            found = self.known_model = find_model(self.transport, self._wanted, deadline, draw=self._draw)
        return found

    def model_with(self, fingerprint: str, deadline: Deadline) -> ServedModel | None:
        """The model in use where it has that fingerprint, else another of the server; None where it has none.

        Where the server has several and none was named, none is in use. Errors as `find_model`.
        """
        self._renew_after_fork()
        known = self._others.get(fingerprint)
        if self.known_model is None and known is not None:
            return known
        try:
            model = self.model(deadline)
        except SeveralModels:
            model = None
        if model is not None and model.fingerprint == fingerprint:
            return model
        found = known or find_fingerprint(self.transport, fingerprint, deadline)
        if found is not None:
            self._others[fingerprint] = found
        return found

    def still_has(self, fingerprint: str, deadline: Deadline) -> bool:
        """Whether the server has a model of that fingerprint now."""
        self._others.pop(fingerprint, None)
        return find_fingerprint(self.transport, fingerprint, deadline) is not None

    def stream(
        self,
        role: Role,
        items: Iterable[object],
        deadline: Deadline,
        *,
        model: ServedModel | None = None,
        each_batch: bool = False,
        judged: bool = False,
    ) -> Generator[Embeddings, None, None]:
        """Answers batch by batch, in order, under one deadline or, with `each_batch`, a new one for each.

        All are of one model: `model`, or the one in use when it begins.
        With `each_batch` the deadline begins with the batch's turn, for which it waits behind other calls for as
        long again at most. Requests of that kind, and those that hold as many items as go into one, are marked as
        bulk. With `judged` the model's detector is asked too, of pictures.
        """
        served = model or self.model(deadline)
        batch_size = min(self._batch_size, served.max_batch_size, served.bulk_batch_size)
        batches = make_batches(items, _PREPARE[role], batch_size)
        ask = self._ask_judged(served) if judged else self._ask(role, served, deadline)

        def send(batch: Batch) -> Embeddings:
            with self._slots:
                return send_now(batch)

        def send_now(batch: Batch) -> Embeddings:
            budget = deadline.renewed() if each_batch else deadline
            deadline.call.count_items(batch.size)
            with sent_with(BULK if each_batch or batch.size >= max(batch_size, 2) else INTERACTIVE):
                try:
                    answer = embed_batch(
                        batch, served.embedding_dim, lambda payloads: ask(payloads, budget), judged=judged
                    )
                except ModelNotFound as error:
                    raise _gone(served, error) from error
            return made_by(answer, served.fingerprint)

        def start(batch: Batch) -> Sent:
            if batch.is_lone and self._sends_in_own_thread(role) and self._slots.acquire(blocking=False):
                try:
                    return Sent.done(_checked(deadline, send_now(batch)))
                finally:
                    self._slots.release()
            try:
                future = self._executor.submit(send, batch)
            except RuntimeError as error:
                raise closed(self.transport.url) from error
            turn = deadline.renewed() if each_batch else deadline
            wait = turn.result_when_started if each_batch else turn.result
            return Sent(future, lambda: _checked(deadline, wait(future)))

        yield from run_in_order(batches, start, self._concurrency)

    def _sends_in_own_thread(self, role: Role) -> bool:
        """Whether nothing is lost where the caller's own thread waits: another one costs a tenth of the rate."""
        decodes_here = role == "image" and self._preprocess != "server"
        return not decodes_here and getattr(self.transport, "keeps_deadlines", False)

    def _ask(self, role: Role, model: ServedModel, deadline: Deadline) -> Ask:
        """What gives the answer to a batch's payloads."""
        own_pixels = self._find_own_pixels(model, deadline) if role == "image" else None
        if own_pixels is not None:
            return own_pixels.infer
        name = model.image_model if role == "image" else model.text_model
        return lambda payloads, budget: with_retries(
            lambda left_s: self.transport.infer(name, role, payloads, left_s), budget, known=True
        )

    def _ask_judged(self, model: ServedModel) -> Ask:
        """The same with the detector, for which the server decodes the pictures."""
        check_has_detector(model)
        if self._preprocess == "client" and not getattr(self.transport, "decodes_here", False):
            raise ConfigError(
                "the served detector judges what the server decodes, and preprocess='client' sends pixels: use "
                "preprocess='auto' or 'server', or give a Detector"
            )
        transport, name = self.transport, model.image_model
        return lambda payloads, budget: with_retries(
            lambda left_s: infer_judged(transport, transport.url, name, payloads, left_s), budget, known=True
        )

    def _find_own_pixels(self, model: ServedModel, deadline: Deadline) -> OwnPixels | None:
        """None where the server decodes pictures; asks it the first time."""
        # An artifact decodes them in this process anyway.
        if self._preprocess == "server" or getattr(self.transport, "decodes_here", False):
            return None
        with deadline.holding(self._lock):
            # A model that is written anew under its name may be of other pixels.
            key = f"{model.prefix} {model.pixels}"
            if key not in self._own_pixels:
                self._own_pixels[key] = self._agree(model, deadline)
            return self._own_pixels[key]

    def _agree(self, model: ServedModel, deadline: Deadline) -> OwnPixels | None:
        url = self.transport.url
        try:
            return agree_on_pixels(self.transport, url, model, deadline)
        except PixelsDiffer as error:
            if self._preprocess == "client":
                raise ConfigError(
                    f"{url}: preprocess='client' (--preprocess) is not possible: {error}; or leave it out, and "
                    "the server decodes the pictures"
                ) from error
            warnings.warn(f"{url}: the server decodes the pictures: {error}", stacklevel=2)
            return None

    def _start_threads(self) -> None:
        self._pid = os.getpid()
        self._executor = ThreadPoolExecutor(self._concurrency, thread_name_prefix="protoclip-client")
        self._slots = threading.BoundedSemaphore(self._concurrency)
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


def _checked(deadline: Deadline, answer: Embeddings) -> Embeddings:
    """An answer that came with the call's end is of no use any more; CallCancelled then."""
    deadline.call.check()
    return answer


def _gone(model: ServedModel, error: ModelNotFound) -> ModelNotFound:
    return ModelNotFound(
        f"{error}: {model.prefix}, which this client uses, is not served any more: call follow(), or make a new "
        "client, and don't compare vectors from before with those after"
    )
