"""Embeddings of the pictures and texts of a table, in batches. `N` pictures, `D` embedding."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from protoclip.contract.errors import DataError, ModelError
from protoclip.contract.pixels import PictureError, PixelSpec, load_pixels
from protoclip.contract.text import TextError, Tokenizer
from protoclip.data.pictures import reason_of
from protoclip.encoders.model import ClipModel, encode_images, encode_texts
from protoclip.sources import Pairs

Vectors = NDArray[np.float32]
CPU = torch.device("cpu")


class MeasuredModel(Protocol):
    """What is measured: a model in torch, or an engine that was exported from it. `B` batch, `D` embedding."""

    @property
    def source(self) -> str:
        """A description for people."""

    @property
    def model_name(self) -> str:
        """Its architecture."""

    @property
    def embedding_dim(self) -> int:
        """D."""

    @property
    def pixels(self) -> PixelSpec:
        """How pictures become its input."""

    @property
    def tokenizer(self) -> Tokenizer:
        """How texts become its input."""

    def embed_pixels(self, pixels: NDArray[np.uint8]) -> Vectors:
        """`[B, H, W, 3]` → `[B, D]`, unit norm."""

    def embed_tokens(self, tokens: NDArray[np.int32]) -> Vectors:
        """`[B, T]` → `[B, D]`, unit norm."""


class TorchModel:
    """A torch model in float32; it is moved to `device`."""

    def __init__(self, clip: ClipModel, device: torch.device = CPU) -> None:
        # On a GPU, convolutions would use TF32, which rounds inputs to a 10-bit mantissa.
        torch.backends.cudnn.allow_tf32 = False
        clip.module.to(device)
        self._clip, self._device = clip, device
        self.source, self.model_name, self.embedding_dim = clip.source, clip.model_name, clip.embedding_dim
        self.pixels, self.tokenizer = clip.pixels, Tokenizer(clip.tokenizer_json, clip.text)

    def embed_pixels(self, pixels: NDArray[np.uint8]) -> Vectors:
        with torch.inference_mode():
            return encode_images(self._clip, torch.from_numpy(pixels).to(self._device)).cpu().numpy()

    def embed_tokens(self, tokens: NDArray[np.int32]) -> Vectors:
        with torch.inference_mode():
            return encode_texts(self._clip, torch.from_numpy(tokens).to(self._device)).cpu().numpy()


@dataclass(frozen=True)
class ImageFeatures:
    """Embeddings of the pictures that could be read.

    Attributes:
        vectors: `[N', D]`, unit norm.
        rows: `[N']`, their rows in the table, ascending.
        skipped: for each of the others, its row, and where it lies and what is wrong with it.
    """

    vectors: Vectors
    rows: NDArray[np.int64]
    skipped: tuple[tuple[int, str], ...]


def extract_images(
    model: MeasuredModel,
    pairs: Pairs,
    *,
    batch_size: int = 256,
    on_batch: Callable[[int], None] = lambda count: None,
) -> ImageFeatures:
    """Embeds every picture of the table; pictures that can't be read are left out and listed.

    Decoding runs in threads, one batch ahead of the model.

    Args:
        model: the model.
        pairs: N rows.
        batch_size: pictures at a time.
        on_batch: called after each batch with the number of rows it held.

    Raises:
        DataError: no picture could be read; names the first reason.
        ModelError: the model gives embeddings that are not finite.
    """
    vectors: list[Vectors] = []
    rows: list[int] = []
    skipped: list[tuple[int, str]] = []
    for start, batch in _decoded_batches(pairs, model.pixels, batch_size):
        good = [offset for offset, item in enumerate(batch) if not isinstance(item, str)]
        skipped += [(start + offset, item) for offset, item in enumerate(batch) if isinstance(item, str)]
        if good:
            vectors.append(model.embed_pixels(np.stack([batch[offset] for offset in good])))
        rows += [start + offset for offset in good]
        on_batch(len(batch))
    if not vectors:
        reason = skipped[0][1] if skipped else "there are no rows"
        raise DataError(f"no picture of {len(pairs)} could be read: {reason}")
    return ImageFeatures(
        _finite(np.concatenate(vectors), model, "pictures"), np.array(rows, dtype=np.int64), tuple(skipped)
    )


def embed_texts(model: MeasuredModel, texts: Sequence[str], *, batch_size: int = 256) -> Vectors:
    """Embeds texts: `[len(texts), D]`, unit norm.

    Raises:
        DataError: a text can't be used.
        ModelError: the model gives embeddings that are not finite.
    """
    vectors = [np.zeros((0, model.embedding_dim), dtype=np.float32)]
    for start in range(0, len(texts), batch_size):
        try:
            tokens = model.tokenizer.encode(texts[start : start + batch_size])
        except TextError as error:
            raise DataError(f"a text from {texts[start]!r} onwards can't be used: {error}") from error
        vectors.append(model.embed_tokens(tokens))
    return _finite(np.concatenate(vectors), model, "texts")


def _decoded_batches(
    pairs: Pairs, spec: PixelSpec, batch_size: int
) -> Iterator[tuple[int, list[NDArray[np.uint8] | str]]]:
    """First rows and batches; a picture that can't be read is replaced by the reason."""

    def decode(row: int) -> NDArray[np.uint8] | str:
        try:
            return load_pixels(pairs.read_image(row), spec)
        except (PictureError, DataError) as error:
            return reason_of(pairs, row, error)

    waiting: deque[tuple[int, list[Future[NDArray[np.uint8] | str]]]] = deque()
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(pairs), batch_size):
            stop = min(start + batch_size, len(pairs))
            waiting.append((start, [pool.submit(decode, row) for row in range(start, stop)]))
            if len(waiting) == 2:
                first, futures = waiting.popleft()
                yield first, [future.result() for future in futures]
        for first, futures in waiting:
            yield first, [future.result() for future in futures]


def _finite(vectors: Vectors, model: MeasuredModel, what: str) -> Vectors:
    bad = int((~np.isfinite(vectors).all(axis=1)).sum())
    if bad:
        raise ModelError(f"{model.source}: {bad} of {len(vectors)} {what} have embeddings that are not finite")
    return vectors
