"""AsyncClient: the client for asyncio. `N` items, `D` embedding."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, overload

from protoclip.contract.errors import ItemError
from protoclip.contract.progress import Progress

from .class_bank import ClassBank
from .classification import AnyDetector, Choice
from .connection import one_transport
from .core import Core, Errors, Searchable
from .deadline import OF_CLIENT, Deadline, Timeout
from .discovery import ServedModel
from .embedder import Role
from .errors import closed
from .inputs import ImageItem, image_items, text_items
from .options import make_options
from .own_pixels import Preprocess
from .query import Weighted, make_query
from .results import Classification, Detection, Embeddings, Hit
from .transport import Array, Matrix, Transport, Vector
from .wanted import Wanted

T = TypeVar("T")

_MAX_CALLS = 256
"""A thread waits for each; more calls wait for their turn, and their budget runs."""


class AsyncClient:
    """`Client` for asyncio: the same arguments, methods, answers and errors, awaited.

    A task that is cancelled sends nothing more, and what it has sent is cancelled: over HTTP by ending the
    connection, over gRPC on the server, where that is Triton 2.59 or later. The event loop never waits: items are
    read, and pictures encoded, in threads.
    Every method's arguments are described at `Client`.

    Example:
        async with AsyncClient("grpc://localhost:8001") as client:
            vectors = await client.embed_images(["cat.jpg", "dog.png"])
            async for part in client.stream_texts(texts): ...
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
        self._closed = False
        self._start_threads()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends all connections; calls under way fail. May be called twice."""
        self._closed = True
        self._threads.shutdown(wait=False)
        await asyncio.to_thread(self._core.close)

    @property
    def url(self) -> str:
        """The server's address."""
        return self._core.transport.url

    @property
    def model(self) -> Coroutine[Any, Any, ServedModel]:
        """As `Client.model`, awaited: `(await client.model).name`."""
        return self._model()

    async def follow(self, *, timeout_s: Timeout = OF_CLIENT) -> ServedModel:
        """As `Client.follow`."""
        with self._begin("follow", timeout_s) as deadline:
            return await self._run(deadline, lambda: self._core.follow(deadline))

    async def model_with(self, fingerprint: str, *, timeout_s: Timeout = OF_CLIENT) -> ServedModel | None:
        """As `Client.model_with`."""
        with self._begin("model_with", timeout_s) as deadline:
            return await self._run(deadline, lambda: self._core.model_with(deadline, fingerprint))

    @overload
    async def embed_images(  # type: ignore[overload-overlap]  # a str is an Iterable too, and means one picture
        self,
        items: ImageItem,
        errors: Literal["raise"] = "raise",
        *,
        timeout_s: Timeout = ...,
        progress: Progress | None = ...,
    ) -> Vector: ...
    @overload
    async def embed_images(
        self,
        items: Iterable[ImageItem],
        errors: Literal["raise"] = "raise",
        *,
        timeout_s: Timeout = ...,
        progress: Progress | None = ...,
    ) -> Matrix: ...
    @overload
    async def embed_images(
        self,
        items: ImageItem | Iterable[ImageItem],
        errors: Literal["return"],
        *,
        timeout_s: Timeout = ...,
        progress: Progress | None = ...,
    ) -> Embeddings: ...
    async def embed_images(
        self,
        items: ImageItem | Iterable[ImageItem],
        errors: Errors = "raise",
        *,
        timeout_s: Timeout = OF_CLIENT,
        progress: Progress | None = None,
    ) -> Array | Embeddings:
        """As `Client.embed_images`; `progress` is called in the event loop's thread."""
        return await self._embed("image", items, errors, timeout_s, progress)

    @overload
    async def embed_texts(  # type: ignore[overload-overlap]  # as above
        self,
        texts: str,
        errors: Literal["raise"] = "raise",
        *,
        timeout_s: Timeout = ...,
        progress: Progress | None = ...,
    ) -> Vector: ...
    @overload
    async def embed_texts(
        self,
        texts: Iterable[str],
        errors: Literal["raise"] = "raise",
        *,
        timeout_s: Timeout = ...,
        progress: Progress | None = ...,
    ) -> Matrix: ...
    @overload
    async def embed_texts(
        self,
        texts: str | Iterable[str],
        errors: Literal["return"],
        *,
        timeout_s: Timeout = ...,
        progress: Progress | None = ...,
    ) -> Embeddings: ...
    async def embed_texts(
        self,
        texts: str | Iterable[str],
        errors: Errors = "raise",
        *,
        timeout_s: Timeout = OF_CLIENT,
        progress: Progress | None = None,
    ) -> Array | Embeddings:
        """As `Client.embed_texts`; `progress` is called in the event loop's thread."""
        return await self._embed("text", texts, errors, timeout_s, progress)

    def stream_images(
        self, items: Iterable[ImageItem], *, timeout_s: Timeout = OF_CLIENT
    ) -> AsyncIterator[Embeddings]:
        """As `Client.stream_images`, for `async for`."""
        return self._stream("image", image_items(items)[0], timeout_s)

    def stream_texts(self, texts: Iterable[str], *, timeout_s: Timeout = OF_CLIENT) -> AsyncIterator[Embeddings]:
        """As `Client.stream_texts`, for `async for`."""
        return self._stream("text", text_items(texts)[0], timeout_s)

    @overload
    async def classify(  # type: ignore[overload-overlap]  # a str is an Iterable too, and means one picture
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
    async def classify(
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
    async def classify(
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
    async def classify(
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
        """As `Client.classify`."""
        choice = Choice(top_k, multi_label, threshold, detector)
        with self._begin("classify", timeout_s) as deadline:
            return await self._run(
                deadline, lambda: self._core.classify(deadline, images, labels, templates, errors, choice)
            )

    @overload
    async def detect(  # type: ignore[overload-overlap]  # a str is an Iterable too, and means one picture
        self, images: ImageItem, *, timeout_s: Timeout = ...
    ) -> Detection: ...
    @overload
    async def detect(self, images: Iterable[ImageItem], *, timeout_s: Timeout = ...) -> list[Detection]: ...
    @overload
    async def detect(
        self, images: Iterable[ImageItem], errors: Errors, *, timeout_s: Timeout = ...
    ) -> list[Detection | ItemError]: ...
    async def detect(
        self,
        images: ImageItem | Iterable[ImageItem],
        errors: Errors = "raise",
        *,
        timeout_s: Timeout = OF_CLIENT,
    ) -> Any:
        """As `Client.detect`."""
        with self._begin("detect", timeout_s) as deadline:
            return await self._run(deadline, lambda: self._core.detect(deadline, images, errors))

    async def class_bank(
        self, labels: Iterable[str], templates: str | Sequence[str] = "plain", *, timeout_s: Timeout = OF_CLIENT
    ) -> ClassBank:
        """As `Client.class_bank`."""
        with self._begin("class_bank", timeout_s) as deadline:
            return await self._run(deadline, lambda: self._core.class_bank(deadline, labels, templates))

    async def search(
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
        """As `Client.search`."""
        query = make_query(text, image, like, minus)
        wanted = Wanted(k, offset, where, group_by, distinct, min_relevance)
        with self._begin("search", timeout_s) as deadline:
            return await self._run(deadline, lambda: self._core.search(deadline, index, query, wanted))

    def _begin(self, name: str, timeout_s: Timeout = OF_CLIENT) -> AbstractContextManager[Deadline]:
        return self._core.begin(name, timeout_s, cancellable=True)

    async def _model(self) -> ServedModel:
        known = self._core.known_model
        if known is not None and not self._closed and self._pid == os.getpid():
            # Nothing is asked, and no thread is waited for.
            return known
        with self._begin("model") as deadline:
            return await self._run(deadline, lambda: self._core.model(deadline))

    async def _embed(
        self, role: Role, items: Any, errors: Errors, timeout_s: Timeout, progress: Progress | None
    ) -> Any:
        with self._begin(f"embed_{role}s", timeout_s) as deadline:
            told = None if progress is None else _InLoop(progress, deadline.call.cancel)
            try:
                return await self._run(deadline, lambda: self._core.embed(deadline, role, items, errors, told))
            finally:
                if told is not None:
                    told.raise_failure()

    async def _stream(self, role: Role, items: Iterable[object], timeout_s: Timeout) -> AsyncIterator[Embeddings]:
        with self._begin(f"stream_{role}s", timeout_s) as deadline:
            parts = self._core.stream(deadline, role, items)
            try:
                while (part := await self._run(deadline.renewed(), lambda: next(parts, None))) is not None:
                    yield part
            finally:
                # Where a thread runs it, the call's end ends that too.
                with contextlib.suppress(ValueError):
                    parts.close()

    async def _run(self, deadline: Deadline, work: Callable[[], T]) -> T:
        """`work` in a thread, for which it waits no longer than `deadline`.

        Where the task is cancelled, `begin` ends what runs there.
        """
        if self._pid != os.getpid():
            self._start_threads()
        left_s = deadline.remaining_s()
        try:
            future = self._threads.submit(work)
        except RuntimeError as error:
            raise closed(self.url) from error
        # By itself: `wrap_future` and `wait` take two more turns of the loop.
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[T] = loop.create_future()
        timer = None if left_s is None else loop.call_later(left_s, _give_up, waiting, future, deadline)
        future.add_done_callback(partial(_hand_over, loop, waiting))
        try:
            return await waiting
        except asyncio.CancelledError:
            future.cancel()
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def _start_threads(self) -> None:
        self._pid = os.getpid()
        self._threads = ThreadPoolExecutor(_MAX_CALLS, thread_name_prefix="protoclip-call")


def _give_up(waiting: asyncio.Future[Any], future: Future[Any], deadline: Deadline) -> None:
    """Ends the wait for what has not begun; what has begun ends by the deadline itself."""
    if future.cancel() and not waiting.done():
        waiting.set_exception(deadline.exceeded())


def _hand_over(loop: asyncio.AbstractEventLoop, waiting: asyncio.Future[Any], future: Future[Any]) -> None:
    # A loop that was closed meanwhile has no caller any more.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(_settle, waiting, future)


def _settle(waiting: asyncio.Future[Any], future: Future[Any]) -> None:
    if waiting.done():
        return
    if future.cancelled():
        waiting.cancel()
    elif (error := future.exception()) is not None:
        waiting.set_exception(error)
    else:
        waiting.set_result(future.result())


class _InLoop:
    """A Progress for a thread, which calls another one in the running event loop."""

    def __init__(self, progress: Progress, cancel: Callable[[], None]) -> None:
        self._progress = progress
        self._cancel = cancel
        self._loop = asyncio.get_running_loop()
        self._failure: Exception | None = None

    def __call__(self, what: str, done: int, total: int) -> None:
        # A loop that was closed meanwhile has no caller any more.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._tell, what, done, total)

    def _tell(self, what: str, done: int, total: int) -> None:
        if self._failure is not None:
            return
        try:
            self._progress(what, done, total)
        except Exception as error:  # noqa: BLE001 - raised again, by the call
            self._failure = error
            self._cancel()

    def raise_failure(self) -> None:
        """Raises what the callback raised."""
        if self._failure is not None:
            raise self._failure
