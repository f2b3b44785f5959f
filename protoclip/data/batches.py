"""Batches for training: positions of an episode → pixels, tokens and random numbers.

`B` pairs in the batch, `H`, `W` the model's picture size, `T` its context length.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from protoclip.config.schema import AugmentationConfig
from protoclip.contract.errors import DataError
from protoclip.contract.pixels import PictureError, PixelSpec

from .augmentation import NUM_COLOUR_DRAWS, NUM_CROP_DRAWS, draw_crop
from .pictures import Pictures
from .random_numbers import uniforms
from .token_table import Tokens

_RESAMPLING = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "nearest": Image.Resampling.NEAREST,
}
_MAX_SUBSTITUTES = 100


@dataclass(frozen=True)
class Requests:
    """What to load: [B] each. `visits` counts how often a pair came before, repeats included."""

    positions: NDArray[np.int64]
    indices: NDArray[np.int64]
    visits: NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """Loaded pairs.

    Attributes:
        positions: [B] int64, places in the episode.
        pixels: [B, H, W, 3] uint8, cropped and mirrored.
        tokens: [B, T] int32.
        colour_draws: [B, 9] float32, random numbers in [0, 1) for `colour_augment`.
        num_substitutes: pictures that could not be read and were replaced by a following one.
    """

    positions: Tensor
    pixels: Tensor
    tokens: Tensor
    colour_draws: Tensor
    num_substitutes: int

    def pin_memory(self) -> Batch:
        """The batch in page-locked memory; torch's DataLoader calls this method by its name."""
        pinned = {
            name: getattr(self, name).pin_memory() for name in ("positions", "pixels", "tokens", "colour_draws")
        }
        return replace(self, **pinned)


class PairLoader(Dataset[Batch]):
    """Loads batches; an item of the data set is a whole batch.

    Args:
        tokens: of the texts of each pair; one is chosen at random at each visit.
    """

    def __init__(
        self,
        pictures: Pictures,
        tokens: Tokens,
        spec: PixelSpec,
        augmentation: AugmentationConfig,
        seed: int,
    ) -> None:
        self._pictures, self._tokens, self._spec = pictures, tokens, spec
        self._augmentation, self._seed = augmentation, seed

    def load(self, requests: Requests) -> Batch:
        """Reads, crops and tokenises; an unreadable picture is replaced by the next one in the data."""
        indices, visits = requests.indices, requests.visits
        crops = uniforms(self._seed, "crop", indices, visits, NUM_CROP_DRAWS)
        colours = uniforms(self._seed, "colour", indices, visits, NUM_COLOUR_DRAWS)
        loaded = [self._pixels(int(i), draws.tolist()) for i, draws in zip(indices, crops, strict=True)]
        read = np.array([index for _, index in loaded])
        return Batch(
            positions=torch.from_numpy(requests.positions),
            pixels=torch.from_numpy(np.stack([pixels for pixels, _ in loaded])),
            tokens=torch.from_numpy(
                self._tokens.chosen(read, uniforms(self._seed, "text", read, visits, 1)[:, 0])
            ),
            colour_draws=torch.from_numpy(colours.astype(np.float32)),
            num_substitutes=int((read != indices).sum()),
        )

    def stream(self, requests: list[Requests], num_workers: int) -> Iterator[Batch]:
        """Loads the given batches in order, with prefetching by worker processes where there are any."""
        if num_workers == 0:
            return (self.load(request) for request in requests)
        loader = DataLoader(
            _Requested(self, requests),
            batch_size=None,
            num_workers=num_workers,
            prefetch_factor=4,
            pin_memory=torch.cuda.is_available(),
        )
        return iter(loader)

    @property
    def token_ids(self) -> Tensor:
        """The distinct tokens of all texts of the data."""
        return torch.from_numpy(self._tokens.distinct_ids())

    def _pixels(self, index: int, draws: list[float]) -> tuple[NDArray[np.uint8], int]:
        picture, index = self._read_or_next(index)
        crop = draw_crop(draws, picture.width, picture.height, self._augmentation)
        picture = picture.resize(
            (self._spec.width, self._spec.height),
            _RESAMPLING[self._spec.interpolation],
            box=crop.box,
            reducing_gap=3.0,
        )
        pixels = np.asarray(picture)
        return (np.ascontiguousarray(pixels[:, ::-1]) if crop.mirror else pixels), index

    def _read_or_next(self, index: int) -> tuple[Image.Image, int]:
        for step in range(min(_MAX_SUBSTITUTES, len(self._pictures))):
            candidate = (index + step) % len(self._pictures)
            try:
                return self._pictures.read(candidate), candidate
            except (DataError, PictureError):
                continue
        raise DataError(
            f"{_MAX_SUBSTITUTES} pictures in a row, from row {index} on, can't be read: check data.path"
        )


class _Requested(Dataset[Batch]):
    def __init__(self, loader: PairLoader, requests: list[Requests]) -> None:
        self._loader, self._requests = loader, requests

    def __len__(self) -> int:
        return len(self._requests)

    def __getitem__(self, number: int) -> Batch:
        return self._loader.load(self._requests[number])
