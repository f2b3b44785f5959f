"""Pixels, one implementation: from picture bytes to uint8 [H, W, 3] for training, server and client.

This file needs NumPy and Pillow only: the Triton preprocessing model carries a copy of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image


class PictureError(ValueError):
    """A picture can't be read, or is beyond a limit; the message is one line."""


@dataclass(frozen=True)
class PixelSpec:
    """How a picture becomes the encoder's input."""

    height: int
    width: int
    resize: Literal["shortest", "longest", "squash"] = "shortest"
    interpolation: Literal["bicubic", "bilinear", "nearest"] = "bicubic"
    fill: tuple[int, int, int] = (0, 0, 0)
    background: tuple[int, int, int] = (255, 255, 255)
    max_bytes: int = 32 * 1024 * 1024
    max_pixels: int = 100_000_000


def decode_rgb(data: bytes, spec: PixelSpec) -> Image.Image: ...


def to_rgb(image: Image.Image, background: tuple[int, int, int]) -> Image.Image: ...


def fit(image: Image.Image, spec: PixelSpec) -> NDArray[np.uint8]: ...


def load_pixels(data: bytes, spec: PixelSpec) -> NDArray[np.uint8]: ...
