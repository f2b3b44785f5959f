"""What Client and AsyncClient do: each call's budget, cancellation and span, and the answers in one piece.

`N` items, `C` classes, `D` embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal, Protocol, TypeVar, Unpack

import numpy as np

from protoclip.contract.errors import ConfigError, ItemError
from protoclip.contract.progress import Progress, silent
from protoclip.contract.zero_shot import find_templates

from .call import Call
from .class_bank import ClassBank, embed_classes
from .class_cache import ClassCache
from .classification import Choice, check_classes, classifications
from .deadline import OF_CLIENT, Deadline, Timeout, check_timeout
from .discovery import ServedModel
from .embedder import Embedder, Role
from .errors import ModelNotFound, SeveralModels, not_served
from .inputs import ImageItem, class_labels, image_items, text_items
from .judged import detections
from .own_pixels import Preprocess
from .query import Query
from .results import Detection, Embeddings, Hit, made_by
from .telemetry import start_span
from .transport import Array, Matrix, Transport
from .wanted import IndexOptions, Wanted

Errors = Literal["raise", "return"]
Made = TypeVar("Made")


class Searchable(Protocol):
    """What `Client.search` needs of an index, such as `Index`."""

    @property
    def fingerprint(self) -> str:
        """That of the model which made its vectors."""

    def check_model(self, model: ServedModel) -> None:
        """Raises IndexFileError where another model made its vectors."""

    def vector(self, name: str) -> Array:
        """The vector `[D]` of an entry; raises ConfigError where there is none."""

    def search(
        self, vectors: Matrix, k: int, *, without: Sequence[str], **options: Unpack[IndexOptions]
    ) -> list[list[Hit]]:
        """The `k` nearest entries of each row of `vectors` `[Q, D]`, best first; see `Index.search`."""


class Core:
    """The calls of a client, each under a Deadline of `begin`. May be shared between threads."""

    def __init__(
        self,
        transport: Transport,
        model: str | None,
        timeout_s: float | None,
        batch_size: int,
        concurrency: int,
        preprocess: Preprocess,
        *,
        canary: bool = True,
    ) -> None:
        """Raises ConfigError where a number does not fit, or `preprocess` is unknown."""
        check_timeout(timeout_s)
        for name, value in (("batch_size", batch_size), ("concurrency", concurrency)):
            if value < 1:
                raise ConfigError(f"{name}={value} must be at least 1")
        self.transport = transport
        self._timeout_s = timeout_s
        self._embedder = Embedder(transport, model, batch_size, concurrency, preprocess, canary=canary)
        self._classes = ClassCache()

    @contextmanager
    def begin(self, name: str, timeout_s: Timeout = OF_CLIENT, *, cancellable: bool = False) -> Iterator[Deadline]:
        """One call: its budget begins, its span lasts as long as the block, and nothing is sent after it.

        Args:
            cancellable: what is under way at the end of the block ends too, at a small cost for every request.

        Raises:
            ConfigError: `timeout_s` is no number of seconds.
        """
        budget_s = self._timeout_s if timeout_s is OF_CLIENT else timeout_s
        check_timeout(budget_s)
        call = Call(start_span(name), cancellable)
        try:
            yield Deadline(budget_s, self.transport.url, call)
        except GeneratorExit:
            # A stream that nobody reads on is no failure.
            raise
        except BaseException as error:
            call.span.failed(error)
            raise
        finally:
            call.cancel()
            model = self._embedder.known_model
            call.span.end(
                url=self.transport.url,
                model=None if model is None else model.prefix,
                items=call.num_items,
                retries=call.num_retries,
            )

    @property
    def known_model(self) -> ServedModel | None:
        """The model in use; None before the server was first asked."""
        return self._embedder.known_model

    def model(self, deadline: Deadline) -> ServedModel:
        """The model in use; asks the server the first time."""
        return self._embedder.model(deadline)

    def follow(self, deadline: Deadline) -> ServedModel:
        """As `Client.follow`."""
        return self._embedder.follow(deadline)

    def model_with(self, deadline: Deadline, fingerprint: str) -> ServedModel | None:
        """As `Client.model_with`."""
        return self._embedder.model_with(fingerprint, deadline)

    def embed(self, deadline: Deadline, role: Role, items: Any, errors: Errors, progress: Progress | None) -> Any:
        """As `Client.embed_images` and `Client.embed_texts`."""
        _check_errors(errors)
        several, single = image_items(items) if role == "image" else text_items(items)
        model = self.model(deadline)
        answer = self._collect(role, several, deadline, errors == "raise", model, progress or silent)
        if single:
            answer = replace(answer, vectors=answer.vectors[0])
        return answer.vectors if errors == "raise" else answer

    def stream(self, deadline: Deadline, role: Role, items: Iterable[Any]) -> Generator[Embeddings, None, None]:
        """As `Client.stream_images`: the budget is each batch's."""
        return self._embedder.stream(role, items, deadline, each_batch=True)

    def classify(
        self,
        deadline: Deadline,
        images: ImageItem | Iterable[ImageItem],
        labels: Iterable[str] | ClassBank,
        templates: str | Sequence[str],
        errors: Errors,
        choice: Choice,
    ) -> Any:
        """As `Client.classify`."""
        _check_errors(errors)
        several, single = image_items(images)
        classes, model = self._find_classes(deadline, labels, templates)
        check_classes(classes, model, choice)
        served = isinstance(choice.detector, str)
        embedded = self._collect("image", several, deadline, errors == "raise", model, judged=served)
        answers = _answer_each(
            embedded,
            lambda rows: classifications(
                embedded.vectors[rows], classes, model, choice, _judged(embedded, rows, model) if served else ()
            ),
        )
        return answers[0] if single else answers

    def detect(self, deadline: Deadline, images: ImageItem | Iterable[ImageItem], errors: Errors) -> Any:
        """As `Client.detect`."""
        _check_errors(errors)
        several, single = image_items(images)
        model = self.model(deadline)
        embedded = self._collect("image", several, deadline, errors == "raise", model, judged=True)
        answers = _answer_each(embedded, lambda rows: _judged(embedded, rows, model))
        return answers[0] if single else answers

    def class_bank(self, deadline: Deadline, labels: Iterable[str], templates: str | Sequence[str]) -> ClassBank:
        """As `Client.class_bank`: the budget is each batch's."""
        names = class_labels(labels)
        found = find_templates(templates)
        stream, model = self._embedder.stream, self.model(deadline)
        return embed_classes(
            names, found, model, lambda texts: stream("text", texts, deadline, model=model, each_batch=True)
        )

    def search(self, deadline: Deadline, index: Searchable, query: Query, wanted: Wanted) -> list[Hit]:
        """As `Client.search`."""
        vector = query.vector(
            lambda texts: self._embed_for(index, deadline, "text", texts),
            lambda image: self._embed_for(index, deadline, "image", image),
            index.vector,
        )
        vectors, without, options = vector[np.newaxis], list(query.ids), wanted.options
        if wanted.min_relevance is None:
            return index.search(vectors, wanted.k, without=without, **options)[0]
        return index.search(vectors, wanted.k, without=without, query_kind=query.kind, **options)[0]

    def close(self) -> None:
        """Ends all connections; running calls in other threads fail."""
        self._embedder.close()

    def _embed_for(self, index: Searchable, deadline: Deadline, role: Role, items: Any) -> Array:
        """Vectors of the model that made the index, whatever else the server has."""
        model = self._model_of(index, deadline)
        try:
            return self._collect(role, items, deadline, True, model).vectors
        except ModelNotFound as error:
            if self._embedder.still_has(index.fingerprint, deadline):
                raise
            raise not_served(index, index.fingerprint, self.transport.url) from error

    def _model_of(self, index: Searchable, deadline: Deadline) -> ServedModel:
        found = self.model_with(deadline, index.fingerprint)
        if found is not None:
            return found
        try:
            model = self.model(deadline)
        except SeveralModels as error:
            raise not_served(index, index.fingerprint, self.transport.url) from error
        index.check_model(model)
        return model

    def _find_classes(
        self, deadline: Deadline, labels: Iterable[str] | ClassBank, templates: str | Sequence[str]
    ) -> tuple[ClassBank, ServedModel]:
        """The classes, and the model that pictures are embedded by too: its own, where the server has it."""
        if not isinstance(labels, ClassBank):
            return self._classes.classes(
                labels,
                templates,
                lambda: self.model(deadline),
                lambda model, texts: self._embedder.stream("text", texts, deadline, model=model),
            )
        if templates != "plain":
            raise ConfigError("templates= beside a class bank: it has its own, leave them out")
        return labels, self.model_with(deadline, labels.fingerprint) or self.model(deadline)

    def _collect(
        self,
        role: Role,
        items: Iterable[object],
        deadline: Deadline,
        stop: bool,
        model: ServedModel,
        progress: Progress = silent,
        *,
        judged: bool = False,
    ) -> Embeddings:
        """All batches as one; with `stop`, the first bad item's ItemError is raised at once.

        With `judged` the model's detector is asked too.
        """
        total = len(items) if isinstance(items, Sized) else 0
        parts, done = [], 0
        for part in self._embedder.stream(role, items, deadline, model=model, judged=judged):
            if stop and part.errors:
                raise part.errors[0]
            parts.append(part)
            done += len(part.vectors)
            progress(f"embed {role}s", done, total)
        empty = np.zeros((0, model.embedding_dim), dtype=np.float32)
        vectors = np.concatenate([empty, *(np.asarray(part.vectors) for part in parts)])
        embedded = Embeddings(vectors, tuple(error for part in parts for error in part.errors))
        if judged:
            known = [part.known for part in parts if part.known is not None]
            scores = [part.known_scores for part in parts if part.known_scores is not None]
            embedded = replace(
                embedded,
                known=np.concatenate([np.zeros(0, dtype=np.bool_), *known]),
                known_scores=np.concatenate([empty[:, 0], *scores]),
            )
        return made_by(embedded, model.fingerprint)


def _check_errors(errors: str) -> None:
    if errors not in ("raise", "return"):
        raise ConfigError(f"errors={errors!r} is unknown: use 'raise' or 'return'")


def _judged(embedded: Embeddings, rows: list[int], model: ServedModel) -> list[Detection]:
    assert embedded.known is not None
    assert embedded.known_scores is not None
    return detections(model, embedded.known[rows], embedded.known_scores[rows])


def _answer_each(embedded: Embeddings, make: Callable[[list[int]], list[Made]]) -> list[Made | ItemError]:
    """What `make` gives for the rows of good items, and the errors of the others, in their order."""
    answers: list[Made | ItemError | None] = [None] * len(embedded.vectors)
    for error in embedded.errors:
        answers[error.position] = error
    good = [row for row, answer in enumerate(answers) if answer is None]
    found = iter(make(good))
    return [next(found) if answer is None else answer for answer in answers]
