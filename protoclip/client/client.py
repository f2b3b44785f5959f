"""The client: embeds, classifies and searches pictures and texts with a ProtoCLIP model on a Triton server.

`N` items, `C` classes, `D` embedding.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self, overload

from protoclip.contract.errors import ItemError
from protoclip.contract.progress import Progress

from .class_bank import ClassBank
from .classification import AnyDetector, Choice
from .connection import one_transport
from .core import Core, Errors, Searchable
from .deadline import OF_CLIENT, Timeout
from .discovery import ServedModel
from .embedder import Role
from .inputs import ImageItem, image_items, text_items
from .options import make_options
from .own_pixels import Preprocess
from .query import Weighted, make_query
from .results import Classification, Detection, Embeddings, Hit
from .transport import Array, Matrix, Transport, Vector
from .wanted import Wanted


class Client:
    """Embeds, classifies and searches with one model of a server. May be shared between threads.

    Nothing is sent before the first call. While the server is away, too busy, starting or stopping, requests are
    repeated for the whole of the call's time budget; an address at which nothing has ever listened is given up
    after four attempts in about a second. After a fork, a client over HTTP goes on in both processes; gRPC and an
    artifact that were in use before say at once, by a ServerError, that they can't.

    Args:
        url: `grpc://host:port` or `http://host:port/prefix`, with TLS `grpcs://` or `https://`; by default
            `grpc://localhost:8001`. Or the folder of an artifact, which then runs in this process by ONNX Runtime,
            without a server.
        model: `emoji` or `emoji_ab12cd`; may be left out where the server offers a single model. Where the server
            has an alias `emoji`, it is the model that this stands for when the client first asks; see `follow`.
        timeout_s: total budget in seconds of a call, retries included; in `stream_images` and `stream_texts`, of
            each batch. None waits for ever.
        batch_size: the most items in a request; the server's own limit applies too.
        concurrency: the most requests at once.
        preprocess: who decodes pictures. "server"; or "client", which sends pixels, after it has compared versions
            and the pixels of some samples with the server's: ConfigError where they are not the same; or "auto",
            which warns then, once, and lets the server do it. A setting of Pillow that changes pixels is a
            ConfigError in both.
        transport: used instead of `url`, for example InMemoryTransport. The client closes it.
        token: sent as `Authorization: Bearer …`; by default the environment's PROTOCLIP_TOKEN. No message, log or
            repr shows it. Without TLS it is readable on the way.
        headers: sent with every request, as metadata over gRPC.
        ca_file: certificates in PEM by which the server's is checked, instead of the machine's own.
        client_cert: this client's certificate in PEM, where the server wants one.
        client_key: its key in PEM, without a password, unless it is in `client_cert`.
        canary: whether this client may be one of those that get an alias's canary. False for work that has to go
            on with the same model in another process.

    Raises:
        ConfigError: an argument has a wrong value, or a certificate can't be used.
        ModelError: `url` is a folder, but not an artifact that runs here.

    Every method that asks the server raises ServerError (Unavailable, DeadlineExceeded, ModelNotFound,
    NotAuthorized, Refused),
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
        preprocess: Preprocess = "server",
        transport: Transport | None = None,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        ca_file: str | os.PathLike[str] | None = None,
        client_cert: str | os.PathLike[str] | None = None,
        client_key: str | os.PathLike[str] | None = None,
        canary: bool = True,
    ) -> None:
        options = make_options(token, headers, ca_file, client_cert, client_key)
        way = one_transport(url, transport, options)
        self._core = Core(way, model, timeout_s, batch_size, concurrency, preprocess, canary=canary)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends all connections; running calls in other threads fail. May be called twice."""
        self._core.close()

    @property
    def url(self) -> str:
        """The server's address."""
        return self._core.transport.url

    @property
    def model(self) -> ServedModel:
        """The model in use: name, fingerprint, embedding_dim, temperature …; asks the server the first time."""
        with self._core.begin("model") as deadline:
            return self._core.model(deadline)

    def follow(self, *, timeout_s: Timeout = OF_CLIENT) -> ServedModel:
        """Asks the server which model is meant now, and uses that one from the next call on.

        A client stays with the model that it found first, by its full name, also when an alias such as `shop` has
        moved: vectors of two models can't be compared. After this call, those from before and after can't.

        Returns:
            The model; another fingerprint than before means that it has changed.
        """
        with self._core.begin("follow", timeout_s) as deadline:
            return self._core.follow(deadline)

    def model_with(self, fingerprint: str, *, timeout_s: Timeout = OF_CLIENT) -> ServedModel | None:
        """The model of that fingerprint: the one in use, or another one of the server; None where it has none."""
        with self._core.begin("model_with", timeout_s) as deadline:
            return self._core.model_with(deadline, fingerprint)

    @overload
    def embed_images(  # type: ignore[overload-overlap]
        self,
        items: ImageItem,
        errors: Literal["raise"] = "raise",
        *,
        timeout_s: Timeout = ...,
        progress: Progress | None = ...,
    ) -> Vector: ...
    @overload
    def embed_images(
        self,
        items: Iterable[ImageItem],
        errors: Literal["raise"] = "raise",
        *,
        timeout_s: Timeout = ...,
        progress: Progress | None = ...,
    ) -> Matrix: ...
    @overload
    def embed_images(
        self,
        items: ImageItem | Iterable[ImageItem],
        errors: Literal["return"],
        *,
        timeout_s: Timeout = ...,
        progress: Progress | None = ...,
    ) -> Embeddings: ...
    def embed_images(
        self,
        items: ImageItem | Iterable[ImageItem],
        errors: Errors = "raise",
        *,
        timeout_s: Timeout = OF_CLIENT,
        progress: Progress | None = None,
    ) -> Array | Embeddings:
        """Vectors of pictures: `[N, D]` float32 of unit norm; `[D]` for a single item, `[0, D]` for none.

        Args:
            items: a path, the bytes of a picture file, an open file (one picture, from where it stands to
                its end; it stays open), a PIL image or a uint8 array `[H, W, 3]` or `[H, W]`; or several of them,
                as a list, a series or a generator, which is read no further ahead than needed. Arrays and PIL
                images are sent as PNG, without loss. A `file:///` address is a path; URLs are not fetched.
            errors: for a bad item, "raise" its error, or "return" an Embeddings, where its row is NaN.
            timeout_s: the call's own total budget, instead of the client's; None waits for ever.
            progress: called after each batch with "embed images", the items done, and their number, which is 0
                where `items` has no length. What it raises ends the call.

        Raises:
            ItemError: the first bad item (missing, a URL, a file of text or closed, not a picture, not uint8 …),
                with errors="raise".
            ConfigError: `items` is neither an image nor several, or a tensor, a table or a response.
        """
        with self._core.begin("embed_images", timeout_s) as deadline:
            return self._core.embed(deadline, "image", items, errors, progress)

    @overload
    def embed_texts(  # type: ignore[overload-overlap]
        self,
        texts: str,
        errors: Literal["raise"] = "raise",
        *,
        timeout_s: Timeout = ...,
        progress: Progress | None = ...,
    ) -> Vector: ...
    @overload
    def embed_texts(
        self,
        texts: Iterable[str],
        errors: Literal["raise"] = "raise",
        *,
        timeout_s: Timeout = ...,
        progress: Progress | None = ...,
    ) -> Matrix: ...
    @overload
    def embed_texts(
        self,
        texts: str | Iterable[str],
        errors: Literal["return"],
        *,
        timeout_s: Timeout = ...,
        progress: Progress | None = ...,
    ) -> Embeddings: ...
    def embed_texts(
        self,
        texts: str | Iterable[str],
        errors: Errors = "raise",
        *,
        timeout_s: Timeout = OF_CLIENT,
        progress: Progress | None = None,
    ) -> Array | Embeddings:
        """Vectors of texts; shapes and errors as `embed_images`. Each item is a str that isn't blank.

        A file is refused: give its lines.
        """
        with self._core.begin("embed_texts", timeout_s) as deadline:
            return self._core.embed(deadline, "text", texts, errors, progress)

    def stream_images(self, items: Iterable[ImageItem], *, timeout_s: Timeout = OF_CLIENT) -> Iterator[Embeddings]:
        """Vectors of any number of pictures, batch by batch and in order. Bad items are returned, never raised.

        The budget `timeout_s` holds for each batch; memory holds `concurrency` + 2 of them.
        """
        return self._stream("image", image_items(items)[0], timeout_s)

    def stream_texts(self, texts: Iterable[str], *, timeout_s: Timeout = OF_CLIENT) -> Iterator[Embeddings]:
        """As `stream_images`, for texts."""
        return self._stream("text", text_items(texts)[0], timeout_s)

    @overload
    def classify(  # type: ignore[overload-overlap]  # a str is an Iterable too, and means one picture
        self,
        images: ImageItem,
        labels: Iterable[str] | ClassBank,
        templates: str | Sequence[str] = ...,
        *,
        top_k: int | None = ...,
        multi_label: bool = ...,
        threshold: float | None = ...,
        detector: AnyDetector | None = ...,
        timeout_s: Timeout = ...,
    ) -> Classification: ...
    @overload
    def classify(
        self,
        images: Iterable[ImageItem],
        labels: Iterable[str] | ClassBank,
        templates: str | Sequence[str] = ...,
        *,
        top_k: int | None = ...,
        multi_label: bool = ...,
        threshold: float | None = ...,
        detector: AnyDetector | None = ...,
        timeout_s: Timeout = ...,
    ) -> list[Classification]: ...
    @overload
    def classify(
        self,
        images: Iterable[ImageItem],
        labels: Iterable[str] | ClassBank,
        templates: str | Sequence[str] = ...,
        *,
        errors: Errors,
        top_k: int | None = ...,
        multi_label: bool = ...,
        threshold: float | None = ...,
        detector: AnyDetector | None = ...,
        timeout_s: Timeout = ...,
    ) -> list[Classification | ItemError]: ...
    def classify(
        self,
        images: ImageItem | Iterable[ImageItem],
        labels: Iterable[str] | ClassBank,
        templates: str | Sequence[str] = "plain",
        errors: Errors = "raise",
        *,
        top_k: int | None = None,
        multi_label: bool = False,
        threshold: float | None = None,
        detector: AnyDetector | None = None,
        timeout_s: Timeout = OF_CLIENT,
    ) -> Any:
        """The most probable label of each picture: one answer for one picture, a list for several.

        A class is the mean of the vectors of its filled templates, normalised. The probabilities are
        softmax(temperature · cosine), together 1; for a model that was trained with a sigmoid loss (SigLIP)
        sigmoid(temperature · cosine + bias), each by itself: `model.probabilities` says which. Vectors of the
        last few sets of classes are cached.

        Args:
            images: as in `embed_images`.
            labels: the classes' names, each once, or a ClassBank. A softmax needs two or more: with one, every
                picture has probability 1.
            templates: "plain", "photo", "icon", CLIP's "simple" (7) and "imagenet" (80), or a list of texts with
                one `{}` each. A ClassBank has its own.
            errors: "raise" the first bad picture's ItemError, or "return" it in the picture's place.
            top_k: the answers hold the best `k` labels alone, best first. Of thousands of classes, all others
                need not be put into an answer.
            multi_label: several labels may fit, or none: `labels` are those whose cosine is the `threshold` or
                more. A softmax says nothing then: only a sigmoid model has probabilities.
            threshold: a cosine. Cosines are no probabilities, and which one suits depends on model and labels.
            detector: a `Detector` of this client's model, or "served" for the one that is served with it: every
                answer says then whether the picture is of a known kind at all (`known`, `known_score`, `reason`);
                its label is the most probable one as before.

        Raises:
            ItemError: a bad picture, with errors="raise".
            ConfigError: no label, a single one for a softmax, one twice, one that can't be encoded, invalid
                templates, classes or a detector of another model, none where the server's is asked for, or a
                `top_k` or `threshold` that doesn't fit.
        """
        choice = Choice(top_k, multi_label, threshold, detector)
        with self._core.begin("classify", timeout_s) as deadline:
            return self._core.classify(deadline, images, labels, templates, errors, choice)

    @overload
    def detect(  # type: ignore[overload-overlap]  # a str is an Iterable too, and means one picture
        self, images: ImageItem, *, timeout_s: Timeout = ...
    ) -> Detection: ...
    @overload
    def detect(self, images: Iterable[ImageItem], *, timeout_s: Timeout = ...) -> list[Detection]: ...
    @overload
    def detect(
        self, images: Iterable[ImageItem], errors: Errors, *, timeout_s: Timeout = ...
    ) -> list[Detection | ItemError]: ...
    def detect(
        self,
        images: ImageItem | Iterable[ImageItem],
        errors: Errors = "raise",
        *,
        timeout_s: Timeout = OF_CLIENT,
    ) -> Any:
        """Whether each picture is of a known kind, by the detector that is served with the model.

        One answer for one picture, a list for several. Pictures are always decoded by the server.

        Args:
            images: as in `embed_images`.
            errors: "raise" the first bad picture's ItemError, or "return" it in the picture's place.

        Raises:
            ItemError: a bad picture, with errors="raise".
            ConfigError: the model is served without a detector, or this client has preprocess="client".
        """
        with self._core.begin("detect", timeout_s) as deadline:
            return self._core.detect(deadline, images, errors)

    def class_bank(
        self, labels: Iterable[str], templates: str | Sequence[str] = "plain", *, timeout_s: Timeout = OF_CLIENT
    ) -> ClassBank:
        """The classes with their vectors, for `classify` in place of labels, and for `ClassBank.save`.

        The budget `timeout_s` holds for each batch of texts.

        Raises:
            ConfigError: as `classify`, of labels and templates.
        """
        with self._core.begin("class_bank", timeout_s) as deadline:
            return self._core.class_bank(deadline, labels, templates)

    def search(
        self,
        index: Searchable,
        *,
        text: Weighted | None = None,
        image: ImageItem | None = None,
        like: Weighted | None = None,
        minus: Weighted | None = None,
        k: int = 10,
        offset: int = 0,
        where: Mapping[str, Any] | None = None,
        group_by: str | None = None,
        distinct: float | None = None,
        min_relevance: float | None = None,
        timeout_s: Timeout = OF_CLIENT,
    ) -> list[Hit]:
        """The `k` entries of `index` nearest to a text, a picture, an entry, or a sum of them, best first.

        It is asked with the model that made the index, where the server has it beside the client's own. Several
        parts are added as unit vectors with their weights, 1 where none is given, and a hit's score is its cosine
        with the sum. By an id alone no server is asked.

        Args:
            text: what to look for, or a mapping from texts to weights.
            image: one picture, as in `embed_images`; it has weight 1.
            like: the id of an entry, or a mapping from ids to weights. They are no hits themselves.
            minus: a text, or a mapping from texts to weights, to subtract.
            offset: how many hits to pass over: pages.
            where: conditions on metadata, as in `Index.search`.
            group_by: a field of the metadata, of each of whose values the best entry alone is a hit.
            distinct: a cosine, such as 0.97: what is this near to a better hit is none, so that of copies of a
                picture the best alone is one.
            min_relevance: a probability: of the `k` nearest, those that are what is asked for with at least this
                one alone; there may be none. It needs an index that is calibrated, as `Index.calibrate` says. A
                sum with a text in it counts as a text, and is less sure.

        Raises:
            ConfigError: nothing to look for, several pictures, a weight, `k` or `offset` that doesn't fit, an
                unknown id, a wrong condition, parts that cancel out, or `min_relevance` and an index without a
                calibration for such queries.
            ItemError: a text or the image is bad.
            IndexFileError: the index was made with a model that the server does not have.
        """
        query = make_query(text, image, like, minus)
        wanted = Wanted(k, offset, where, group_by, distinct, min_relevance)
        with self._core.begin("search", timeout_s) as deadline:
            return self._core.search(deadline, index, query, wanted)

    def _stream(self, role: Role, items: Iterable[object], timeout_s: Timeout) -> Iterator[Embeddings]:
        with self._core.begin(f"stream_{role}s", timeout_s) as deadline:
            yield from self._core.stream(deadline, role, items)
