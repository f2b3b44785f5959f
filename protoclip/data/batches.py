"""Batches for training: positions of an episode → pixels, tokens and random numbers.

`B` pairs in the batch, `H`, `W` the model's picture size, `T` its context length.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from protoclip.config.schema import AugmentationConfig
from protoclip.contract.errors import DataError
from protoclip.contract.picture_folders import Skipped
from protoclip.contract.pixels import PictureError, PixelSpec

from .augmentation import NUM_COLOUR_DRAWS, NUM_CROP_DRAWS, draw_crop
from .crops import resized_crop
from .pictures import Pictures
from .random_numbers import uniforms
from .token_table import Tokens


@dataclass(frozen=True)
class Requests:
    """What to load: [B] each. `visits` counts how often a pair came before, repeats included."""

    positions: NDArray[np.int64]
    indices: NDArray[np.int64]
    visits: NDArray[np.int64]

    def select(self, rows: NDArray[np.int64]) -> Requests:
        """The given rows in their order."""
        return Requests(self.positions[rows], self.indices[rows], self.visits[rows])

    def equals(self, other: Requests) -> bool:
        """Whether both ask for the same, in the same order."""
        return all(
            np.array_equal(getattr(self, name), getattr(other, name))
            for name in ("positions", "indices", "visits")
        )


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
        """The batch in page-locked memory, from which copies to a GPU need not be waited for."""
        pinned = {
            name: getattr(self, name).pin_memory() for name in ("positions", "pixels", "tokens", "colour_draws")
        }
        return replace(self, **pinned)


class PairLoader:
    """Loads batches. Those of equal requests are equal, bit for bit, wherever their pictures were cropped.

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
        pixels = np.empty((len(requests.indices), *self.picture_shape), dtype=np.uint8)
        return self.batch(requests, pixels, self.crop(requests.indices, requests.visits, pixels))

    @property
    def picture_shape(self) -> tuple[int, int, int]:
        """(H, W, 3)."""
        return self._spec.height, self._spec.width, 3

    def crop(
        self, indices: NDArray[np.int64], visits: NDArray[np.int64], pixels: NDArray[np.uint8]
    ) -> list[str | None]:
        """Writes each picture's crop into `pixels` [B, H, W, 3]; why it can't be read, or None, for each."""
        draws = uniforms(self._seed, "crop", indices, visits, NUM_CROP_DRAWS).tolist()
        return [
            self._crop_one(index, own, place)
            for index, own, place in zip(indices.tolist(), draws, pixels, strict=True)
        ]

    def batch(self, requests: Requests, pixels: NDArray[np.uint8], reasons: list[str | None]) -> Batch:
        """What was asked for, of what `crop` made: the pixels [B, H, W, 3] and the reasons [B]."""
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
        place[:] = resized_crop(picture, crop, self._spec)
        return None
