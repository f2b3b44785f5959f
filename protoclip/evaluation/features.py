"""Embeddings of the pictures and texts of a table, in batches. `N` pictures, `D` embedding."""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from protoclip.contract.errors import DataError, ModelError
from protoclip.contract.pixels import PictureError, PixelSpec, load_pixels
from protoclip.contract.text import TextError, Tokenizer
from protoclip.data.pictures import reason_of
from protoclip.distributed import collectives
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
        self.temperature, self.logit_bias = clip.temperature, clip.logit_bias
        self.pixels, self.tokenizer = clip.pixels, Tokenizer(clip.tokenizer_json, clip.text)

    @cached_property
    def fingerprint(self) -> str:
        """What embeddings of pictures depend on, beside these: weights, preprocessing, and what computes."""
        clip, device = self._clip, self._device.type
        found = hashlib.sha256(repr([clip.pixels, clip.mean, clip.std, device, torch.__version__]).encode())
        found.update(repr(sorted(clip.model_config.items(), key=str)).encode())
        for name, tensor in sorted(clip.module.state_dict().items()):
            found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return found.hexdigest()

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

    Decoding runs in threads, one batch ahead of the model. Each rank embeds its share, and all have the result.

    Args:
        model: the model.
        pairs: N rows.
        batch_size: pictures at a time.
        on_batch: called after each batch with the number of rows it held.

    Raises:
        DataError: no picture could be read; names the first reason.
        ModelError: the model gives embeddings that are not finite.
    """
    own = own_rows(len(pairs), batch_size)
    share = pairs if len(own) == len(pairs) else pairs.select(own)
    found, failure = _embedded(model, share, batch_size, lambda count: on_batch(count * collectives.world_size()))
    _raise_together(failure)
    found = _of_all_ranks(found, own, len(pairs))
    if not len(found.rows):
        reason = found.skipped[0][1] if found.skipped else "there are no rows"
        raise DataError(f"no picture of {len(pairs)} could be read: {reason}")
    return found


def own_rows(count: int, batch_size: int) -> NDArray[np.int64]:
    """This rank's rows of `count`, ascending: whole batches, so that they are the same on any number of ranks."""
    batches = np.arange(-(-count // batch_size))
    own = np.array_split(batches, collectives.world_size())[collectives.rank()]
    first, last = (int(own[0]), int(own[-1]) + 1) if len(own) else (0, 0)
    return np.arange(first * batch_size, min(last * batch_size, count))


def _embedded(
    model: MeasuredModel, pairs: Pairs, batch_size: int, on_batch: Callable[[int], None]
) -> tuple[ImageFeatures, str]:
    """Of this rank's pairs, and what is wrong with the model's embeddings, empty where nothing is."""
    vectors: list[Vectors] = [np.zeros((0, model.embedding_dim), dtype=np.float32)]
    rows: list[int] = []
    skipped: list[tuple[int, str]] = []
    for start, batch in _decoded_batches(pairs, model.pixels, batch_size):
        good = [offset for offset, item in enumerate(batch) if not isinstance(item, str)]
        skipped += [(start + offset, item) for offset, item in enumerate(batch) if isinstance(item, str)]
        if good:
            vectors.append(model.embed_pixels(np.stack([batch[offset] for offset in good])))
        rows += [start + offset for offset in good]
        on_batch(len(batch))
    found = ImageFeatures(np.concatenate(vectors), np.array(rows, dtype=np.int64), tuple(skipped))
    return found, _not_finite(found.vectors, model, "pictures")


def _raise_together(failure: str) -> None:
    """On all ranks what one of them found: alone, it would leave the others waiting in a collective.

    Raises:
        ModelError: `failure` isn't empty on some rank.
    """
    found = [text for text in collectives.gather_texts(failure or " ") if text.strip()]
    if found:
        raise ModelError(found[0])


def _of_all_ranks(found: ImageFeatures, own: NDArray[np.int64], count: int) -> ImageFeatures:
    if collectives.world_size() == 1:
        return found
    places = torch.from_numpy(own[found.rows])
    vectors = collectives.fill(torch.from_numpy(found.vectors), places, count).numpy()
    read = collectives.fill(torch.ones(len(places), dtype=torch.int64), places, count).numpy()
    rows = np.flatnonzero(read)
    listed = json.dumps([[int(own[row]), reason] for row, reason in found.skipped])
    skipped = [item for text in collectives.gather_texts(listed) for item in json.loads(text)]
    return ImageFeatures(vectors[rows], rows, tuple((row, reason) for row, reason in sorted(skipped)))


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
    if failure := _not_finite(vectors, model, what):
        raise ModelError(failure)
    return vectors


def _not_finite(vectors: Vectors, model: MeasuredModel, what: str) -> str:
    bad = int((~np.isfinite(vectors).all(axis=1)).sum())
    return f"{model.source}: {bad} of {len(vectors)} {what} have embeddings that are not finite" if bad else ""
