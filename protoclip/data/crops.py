"""A crop of a picture in the model's size. `H`, `W` the size."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from protoclip.contract.pixels import PixelSpec, Reduced

from .augmentation import CropBox

Box = tuple[float, float, float, float]
"""Left, top, right, bottom, in pixels."""


def resized_crop(picture: Reduced, crop: CropBox, spec: PixelSpec) -> NDArray[np.uint8]:
    """The part `crop` of the picture, resized to uint8 [H, W, 3] in the size of `spec`, proportions not kept.

    The box is rounded to whole pixels of `picture.image`, and nothing outside of it counts, as in torchvision's
    random crops. torch resizes 8-bit pictures three times as fast as Pillow, in integers: the result does not
    depend on the number of threads. How far the two differ: benchmarks/scaled_decode_2cores_202611.md.
    """
    place = whole_box(picture.place(crop.box), picture.image.size)
    # The dimension of pictures first: torch takes one that comes later for planes, and its result is slow to copy.
    pixels = torch.from_numpy(np.array(picture.image.crop(place))).unsqueeze(0).permute(0, 3, 1, 2)
    size = (spec.height, spec.width)
    if spec.interpolation == "nearest":
        resized = F.interpolate(pixels, size, mode="nearest-exact")
    else:
        resized = F.interpolate(pixels, size, mode=spec.interpolation, antialias=True)
    if crop.mirror:
        resized = resized.flip(3)
    return resized.squeeze(0).permute(1, 2, 0).numpy()


def whole_box(box: Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The nearest box of whole pixels, at least one, in a picture of `size` (width, height)."""
    left, top = (min(round(edge), side - 1) for edge, side in zip(box[:2], size, strict=True))
    right, bottom = (min(round(edge), side) for edge, side in zip(box[2:], size, strict=True))
    return left, top, max(right, left + 1), max(bottom, top + 1)
