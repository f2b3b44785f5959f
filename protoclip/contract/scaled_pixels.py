"""Pixels from pictures that are decoded no larger than an encoder needs: faster, and not the same bytes.

Who serves them measures the embeddings before, as for an engine of lower precision. This file needs NumPy, Pillow,
and the files that it imports beside it: the Triton preprocessing model carries copies of them all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .pixels import PixelSpec, Reduced, decode_reduced, fit, load_pixels
from .resizing import RESAMPLING, filled_and_cropped

# How many times the encoder's input the reduced picture is at least: a decoder's own means of blocks come before
# the resize, whose filter then has enough pixels.
_MARGINS = {8: 2.0, 4: 2.0, 2: 1.5}

Decoding = Literal["whole", "scaled"]


def scale_factor(width: int, height: int, spec: PixelSpec) -> int:
    """By how much a picture of that size may be decoded smaller: 1, 2, 4 or 8."""
    ratios = (width / spec.width, height / spec.height)
    ratio = max(ratios) if spec.resize == "longest" else min(ratios)
    return next((factor for factor, margin in _MARGINS.items() if factor * margin <= ratio), 1)


def load_scaled_pixels(data: bytes, spec: PixelSpec) -> NDArray[np.uint8]:
    """As `load_pixels`, uint8 `[H, W, 3]`, of a picture decoded at a part of its size; small ones are the same.

    Raises:
        PictureError: as `decode_rgb`.
    """
    reduced = decode_reduced(data, spec, lambda width, height: scale_factor(width, height, spec))
    return fit(reduced.image, spec) if reduced.factor == 1 else _fit_reduced(reduced, spec)


LOADERS: Mapping[Decoding, Callable[[bytes, PixelSpec], NDArray[np.uint8]]] = {
    "whole": load_pixels,
    "scaled": load_scaled_pixels,
}


def _fit_reduced(picture: Reduced, spec: PixelSpec) -> NDArray[np.uint8]:
    """What `fit` makes of the whole picture, by the picture's own size and not by the rounded one."""
    width, height, target = picture.width, picture.height, (spec.width, spec.height)
    size, box, interpolation = target, (0.0, 0.0, float(width), float(height)), spec.interpolation
    if spec.resize == "longest":
        ratio = max(width / target[0], height / target[1])
        size = (max(1, round(width / ratio)), max(1, round(height / ratio)))
    elif spec.resize == "shortest":
        whole, (left, top) = filled_and_cropped((width, height), target)
        across, down = width / whole[0], height / whole[1]
        box = (left * across, top * down, (left + target[0]) * across, (top + target[1]) * down)
        interpolation = spec.interpolation if target[0] == target[1] else "bicubic"
    resized = picture.image.resize(size, RESAMPLING[interpolation], box=picture.place(box))
    if size != target:
        canvas = Image.new("RGB", target, spec.fill)
        canvas.paste(resized, ((target[0] - size[0]) // 2, (target[1] - size[1]) // 2))
        resized = canvas
    return np.array(resized, dtype=np.uint8)
