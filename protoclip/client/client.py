"""The client: embeds, classifies and searches pictures and texts with a ProtoCLIP model on a Triton server.

`N` items, `C` classes, `D` embedding.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Literal, Protocol, Self, overload

from protoclip.contract.errors import ConfigError, ItemError

from .class_cache import ClassCache
from .connection import DEFAULT_URL, connect
from .discovery import ServedModel
from .embedder import Embedder, Role
from .inputs import ImageItem, check_comparable, class_labels, image_items, text_items
from .results import Classification, Embeddings, Hit, classifications
from .transport import Array, Matrix, Transport, Vector

Errors = Literal["raise", "return"]


class Searchable(Protocol):
    """What `Client.search` needs of an index, such as `Index`."""

    def check_model(self, model: ServedModel) -> None:
        """Raises IndexFileError where another model made its vectors."""

    def search(self, vectors: Array, k: int) -> list[list[Hit]]:
        """The `k` nearest entries of each row of `vectors` `[Q, D]`, best first."""


class Client:
    """Embeds, classifies and searches with one model of a server. May be shared between threads.

    Nothing is sent before the first call. While the server is away, too busy, starting or stopping, requests are
    repeated for the whole of the call's time budget; an address at which nothing has ever listened is given up
    after four attempts in about a second. After a fork, a client over HTTP goes on in both processes; gRPC and an
    artifact that were in use before say at once, by a ServerError, that they can't.

    Args:
        url: `grpc://host:port` or `http://host:port`, by default `grpc://localhost:8001`; or the folder of an
            artifact, which then runs in this process by ONNX Runtime, without a server.
        model: `emoji` or `emoji_ab12cd`; may be left out where the server offers a single model.
        timeout_s: total budget in seconds of a call, retries included; in `stream_images` and `stream_texts`, of
            each batch. None waits for ever.
        batch_size: the most items in a request; the server's own limit applies too.
        concurrency: the most requests at once.
        transport: used instead of `url`, for example InMemoryTransport. The client closes it.

    Raises:
        ConfigError: an argument has a wrong value.
        ModelError: `url` is a folder, but not an artifact that runs here.

    Every method that asks the server raises ServerError (Unavailable, DeadlineExceeded, ModelNotFound, Refused),
    and ConfigError where several models fit.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        model: str | None = None,
        timeout_s: float | None = 30.0,
        batch_size: int = 32,
        concurrency: int = 4,
        transport: Transport | None = None,
    ) -> None:
        if url is not None and transport is not None:
            raise ConfigError("url and transport are both given: leave one out")
        if timeout_s is not None and not (math.isfinite(timeout_s) and timeout_s > 0):
            raise ConfigError(f"timeout_s={timeout_s} must be a number of seconds above 0, or None")
        for name, value in (("batch_size", batch_size), ("concurrency", concurrency)):
            if value < 1:
                raise ConfigError(f"{name}={value} must be at least 1")
        way = transport or connect(url or DEFAULT_URL)
        self._embedder = Embedder(way, model, timeout_s, batch_size, concurrency)
        self._classes = ClassCache()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends all connections; running calls in other threads fail. May be called twice."""
        self._embedder.close()

    @property
    def url(self) -> str:
        """The server's address."""
        return self._embedder.transport.url

    @property
    def model(self) -> ServedModel:
        """The model in use: name, fingerprint, embedding_dim, temperature …; asks the server the first time."""
        return self._embedder.model(self._embedder.deadline())

    @overload
    def embed_images(self, items: ImageItem, errors: Literal["raise"] = "raise") -> Vector: ...  # type: ignore[overload-overlap]  # a str is an Iterable too, and means one picture
    @overload
    def embed_images(self, items: Iterable[ImageItem], errors: Literal["raise"] = "raise") -> Matrix: ...
    @overload
    def embed_images(self, items: ImageItem | Iterable[ImageItem], errors: Literal["return"]) -> Embeddings: ...
    def embed_images(self, items: ImageItem | Iterable[ImageItem], errors: Errors = "raise") -> Array | Embeddings:
        """Vectors of pictures: `[N, D]` float32 of unit norm; `[D]` for a single item, `[0, D]` for none.

        Args:
            items: a path, the bytes of a picture file, an open file (one picture, from where it stands to
                its end; it stays open), a PIL image or a uint8 array `[H, W, 3]` or `[H, W]`; or several of them,
                as a list, a series or a generator, which is read no further ahead than needed. Arrays and PIL
                images are sent as PNG, without loss. A `file:///` address is a path; URLs are not fetched.
            errors: for a bad item, "raise" its error, or "return" an Embeddings, where its row is NaN.

        Raises:
            ItemError: the first bad item (missing, a URL, a file of text or closed, not a picture, not uint8 …),
                with errors="raise".
            ConfigError: `items` is neither an image nor several, or a tensor, a table or a response.
        """
        several, single = image_items(items)
        return self._embed("image", several, single, errors)

    @overload
    def embed_texts(self, texts: str, errors: Literal["raise"] = "raise") -> Vector: ...  # type: ignore[overload-overlap]  # as above
    @overload
    def embed_texts(self, texts: Iterable[str], errors: Literal["raise"] = "raise") -> Matrix: ...
    @overload
    def embed_texts(self, texts: str | Iterable[str], errors: Literal["return"]) -> Embeddings: ...
    def embed_texts(self, texts: str | Iterable[str], errors: Errors = "raise") -> Array | Embeddings:
        """Vectors of texts; shapes and errors as `embed_images`. Each item is a str that isn't blank.

        A file is refused: give its lines.
        """
        several, single = text_items(texts)
        return self._embed("text", several, single, errors)

    def stream_images(self, items: Iterable[ImageItem]) -> Iterator[Embeddings]:
        """Vectors of any number of pictures, batch by batch and in order. Bad items are returned, never raised.

        The budget `timeout_s` holds for each batch; memory holds `concurrency` + 2 of them.
        """
        return self._embedder.stream("image", image_items(items)[0])

    def stream_texts(self, texts: Iterable[str]) -> Iterator[Embeddings]:
        """As `stream_images`, for texts."""
        return self._embedder.stream("text", text_items(texts)[0])

    @overload
    def classify(  # type: ignore[overload-overlap]  # a str is an Iterable too, and means one picture
        self, images: ImageItem, labels: Iterable[str], templates: str | Sequence[str] = ...
    ) -> Classification: ...
    @overload
    def classify(
        self, images: Iterable[ImageItem], labels: Iterable[str], templates: str | Sequence[str] = ...
    ) -> list[Classification]: ...
    @overload
    def classify(
        self,
        images: Iterable[ImageItem],
        labels: Iterable[str],
        templates: str | Sequence[str] = ...,
        *,
        errors: Errors,
    ) -> list[Classification | ItemError]: ...
    def classify(
        self,
        images: ImageItem | Iterable[ImageItem],
        labels: Iterable[str],
        templates: str | Sequence[str] = "plain",
        errors: Errors = "raise",
    ) -> Any:
        """The most probable label of each picture: one answer for one picture, a list for several.

        A class is the mean of the vectors of its filled templates, normalised. The probabilities are
        softmax(temperature · cosine), together 1; for a model that was trained with a sigmoid loss (SigLIP)
        sigmoid(temperature · cosine + bias), each by itself: `model.probabilities` says which. Vectors of the
        last few sets of classes are cached.

        Args:
            images: as in `embed_images`.
            labels: the classes' names, each once. A softmax needs two or more: with one, every picture has
                probability 1.
            templates: "plain", "photo", "icon", or a list of texts with one `{}` each.
            errors: "raise" the first bad picture's ItemError, or "return" it in the picture's place.

        Raises:
            ItemError: a bad picture, with errors="raise".
            ConfigError: no label, a single one for a softmax, one twice, one that can't be encoded, or invalid
                templates.
        """
        _check_errors(errors)
        several, single = image_items(images)
        labels = class_labels(labels)
        deadline = self._embedder.deadline()
        classes = self._classes.vectors(
            labels, templates, lambda texts: self._embedder.collect("text", texts, deadline)
        )
        model = self._embedder.model(deadline)
        check_comparable(labels, model.probabilities)
        embedded = self._embedder.collect("image", several, deadline, stop=errors == "raise")
        answers = _answer_each(embedded, labels, classes, model)
        return answers[0] if single else answers

    def search(
        self, index: Searchable, *, text: str | None = None, image: ImageItem | None = None, k: int = 10
    ) -> list[Hit]:
        """The `k` entries of `index` that are nearest to one text or one image, best first.

        Raises:
            ConfigError: not exactly one of `text` and `image`, several items, or a `k` that doesn't fit.
            ItemError: the text or the image is bad.
            IndexFileError: the index was made with another model, or is empty.
        """
        if (text is None) == (image is None):
            raise ConfigError("search needs one of text= and image=")
        role: Role = "image" if text is None else "text"
        several, single = image_items(image) if image is not None else text_items(text or "")
        if not single:
            raise ConfigError(f"{role}= takes one item: for several use embed_{role}s and Index.search")
        index.check_model(self.model)
        vectors = self._embedder.collect(role, several, self._embedder.deadline(), stop=True).vectors
        return index.search(vectors, k)[0]

    def _embed(self, role: Role, items: Iterable[object], single: bool, errors: Errors) -> Any:
        _check_errors(errors)
        answer = self._embedder.collect(role, items, self._embedder.deadline(), stop=errors == "raise")
        if single:
            answer = Embeddings(answer.vectors[0], answer.errors)
        return answer.vectors if errors == "raise" else answer


def _check_errors(errors: str) -> None:
    if errors not in ("raise", "return"):
        raise ConfigError(f"errors={errors!r} is unknown: use 'raise' or 'return'")


def _answer_each(
    embedded: Embeddings, labels: Sequence[str], classes: Array, model: ServedModel
) -> list[Classification | ItemError]:
    answers: list[Classification | ItemError | None] = [None] * len(embedded.vectors)
    for error in embedded.errors:
        answers[error.position] = error
    good = [row for row, answer in enumerate(answers) if answer is None]
    found = iter(classifications(embedded.vectors[good], labels, classes, model))
    return [next(found) if answer is None else answer for answer in answers]
