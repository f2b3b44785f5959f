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
from protoclip.contract.picture_folders import Skipped
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


@dataclass(frozen=True)
class Requests:
    """What to load: [B] each. `visits` counts how often a pair came before, repeats included."""

    positions: NDArray[np.int64]
    indices: NDArray[np.int64]
    visits: NDArray[np.int64]

    def select(self, rows: NDArray[np.int64]) -> Requests:
        """The given rows in their order."""
        return Requests(self.positions[rows], self.indices[rows], self.visits[rows])


@dataclass(frozen=True)
class LeftOut:
    """A pair whose picture can't be read: its places in the episode and in the data, and why."""

    position: int
    index: int
    picture: Skipped


@dataclass(frozen=True)
class Batch:
    """Loaded pairs: those that were asked for, in their order, without the ones whose pictures can't be read.

    Attributes:
        positions: [B] int64, places in the episode; B may be 0.
        pixels: [B, H, W, 3] uint8, cropped and mirrored.
        tokens: [B, T] int32.
        colour_draws: [B, 9] float32, random numbers in [0, 1) for `colour_augment`.
        left_out: the pairs whose pictures can't be read.
    """

    positions: Tensor
    pixels: Tensor
    tokens: Tensor
    colour_draws: Tensor
    left_out: tuple[LeftOut, ...] = ()

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
        """Reads, crops and tokenises the pairs whose pictures can be read."""
        pixels = np.empty((len(requests.indices), self._spec.height, self._spec.width, 3), dtype=np.uint8)
        return self._batch(requests, pixels, self._crop(requests.indices, requests.visits, pixels))

    def _crop(
        self, indices: NDArray[np.int64], visits: NDArray[np.int64], pixels: NDArray[np.uint8]
    ) -> list[str | None]:
        """Writes each picture's crop into `pixels` [B, H, W, 3]; why it can't be read, or None, for each."""
        draws = uniforms(self._seed, "crop", indices, visits, NUM_CROP_DRAWS).tolist()
        return [
            self._crop_one(index, own, place)
            for index, own, place in zip(indices.tolist(), draws, pixels, strict=True)
        ]

    def _batch(self, requests: Requests, pixels: NDArray[np.uint8], reasons: list[str | None]) -> Batch:
        left_out = tuple(
            self._left_out(int(requests.positions[row]), int(requests.indices[row]), reason)
            for row, reason in enumerate(reasons)
            if reason is not None
        )
        if left_out:
            kept = np.array([row for row, reason in enumerate(reasons) if reason is None], dtype=np.int64)
            requests, pixels = requests.select(kept), pixels[kept]
        indices, visits = requests.indices, requests.visits
        colours = uniforms(self._seed, "colour", indices, visits, NUM_COLOUR_DRAWS)
        return Batch(
            positions=torch.from_numpy(requests.positions),
            pixels=torch.from_numpy(pixels),
            tokens=torch.from_numpy(
                self._tokens.chosen(indices, uniforms(self._seed, "text", indices, visits, 1)[:, 0])
            ),
            colour_draws=torch.from_numpy(colours.astype(np.float32)),
            left_out=left_out,
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

    def _left_out(self, position: int, index: int, reason: str) -> LeftOut:
        return LeftOut(position, index, self._pictures.skipped(index, reason))

    def _crop_one(self, index: int, draws: list[float], place: NDArray[np.uint8]) -> str | None:
        try:
            picture = self._pictures.read(index)
        except (DataError, PictureError) as error:
            return str(error)
        crop = draw_crop(draws, picture.width, picture.height, self._augmentation)
        picture = picture.resize(
            (self._spec.width, self._spec.height),
            _RESAMPLING[self._spec.interpolation],
            box=crop.box,
            reducing_gap=3.0,
        )
        pixels = np.asarray(picture)
        place[:] = pixels[:, ::-1] if crop.mirror else pixels
        return None


class _Requested(Dataset[Batch]):
    def __init__(self, loader: PairLoader, requests: list[Requests]) -> None:
        self._loader, self._requests = loader, requests

    def __len__(self) -> int:
        return len(self._requests)

    def __getitem__(self, number: int) -> Batch:
        return self._loader.load(self._requests[number])
