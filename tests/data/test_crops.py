"""Crops by torch show what Pillow's show, wherever and from whatever they are cut."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from protoclip.contract.pixels import PixelSpec, Reduced
from protoclip.contract.resizing import RESAMPLING
from protoclip.data.augmentation import CropBox
from protoclip.data.crops import resized_crop, whole_box

CASES = [
    (200, 150, (10.0, 20.0, 190.0, 140.0)),
    (60, 41, (0.0, 0.0, 60.0, 41.0)),
    (20, 16, (3.2, 4.7, 11.9, 13.1)),
    (900, 30, (100.4, 0.0, 850.6, 30.0)),
    (1, 300, (0.0, 7.0, 1.0, 290.0)),
    (300, 1, (299.7, 0.2, 300.0, 0.4)),
]


def picture(width: int, height: int) -> Image.Image:
    values = np.random.default_rng(width).integers(0, 256, (height, width, 3))
    return Image.fromarray(values.astype(np.uint8))


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "nearest"])
@pytest.mark.parametrize(("width", "height", "box"), CASES)
def test_equals_pillow(
    width: int, height: int, box: tuple[float, float, float, float], interpolation: str
) -> None:
    image, spec = picture(width, height), PixelSpec(40, 56, interpolation=interpolation)  # type: ignore[arg-type]
    place = whole_box(box, image.size)
    expected = np.asarray(image.crop(place).resize((56, 40), RESAMPLING[interpolation])).astype(int)
    found = resized_crop(Reduced(image, *image.size), CropBox(box, mirror=False), spec)
    assert (found.shape, found.dtype) == ((40, 56, 3), np.uint8)
    assert np.abs(found - expected).max() <= (0 if interpolation == "nearest" else 2)
    mirrored = resized_crop(Reduced(image, *image.size), CropBox(box, mirror=True), spec)
    assert np.array_equal(mirrored, found[:, ::-1])


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((0.4, 0.6, 9.4, 4.6), (0, 1, 9, 5)),
        ((9.9, 4.9, 10.0, 5.0), (9, 4, 10, 5)),
        ((3.2, 2.2, 3.3, 2.3), (3, 2, 4, 3)),
        ((0.0, 0.0, 10.0, 5.0), (0, 0, 10, 5)),
    ],
)
def test_boxes_have_whole_pixels(
    box: tuple[float, float, float, float], expected: tuple[int, int, int, int]
) -> None:
    assert whole_box(box, (10, 5)) == expected
