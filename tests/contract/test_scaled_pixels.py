"""Pictures decoded at a part of their size: the same place, nearly the same pixels, and small ones untouched."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from protoclip.contract.pixels import PixelSpec, load_pixels
from protoclip.contract.rgb import PictureError
from protoclip.contract.scaled_pixels import load_scaled_pixels, scale_factor

RESIZES = ("shortest", "longest", "squash")


def _waves(width: int, height: int, kind: str = "JPEG", **options: Any) -> bytes:
    """Long waves, unlike on all sides."""
    y, x = np.mgrid[:height, :width] / max(width, height)
    waves = np.stack([np.sin(9 * x + 4 * y), np.cos(7 * x * y + y), np.sin(11 * y - 3 * x)], axis=-1)
    stream = BytesIO()
    Image.fromarray((127 + 110 * waves).astype(np.uint8)).save(stream, kind, **options)
    return stream.getvalue()


def _difference(data: bytes, spec: PixelSpec) -> NDArray[np.int64]:
    return np.abs(load_scaled_pixels(data, spec).astype(int) - load_pixels(data, spec).astype(int))


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("size", [(1000, 750), (751, 1003), (333, 257), (2001, 1499)])
@pytest.mark.parametrize("target", [(48, 48), (64, 40)])
def test_a_picture_stays_where_it_is(resize: Any, size: tuple[int, int], target: tuple[int, int]) -> None:
    """Shifted by half a pixel of the encoder's, waves this long would differ by more."""
    spec = PixelSpec(*target, resize=resize, fill=(9, 8, 7))
    assert scale_factor(*size, spec) > 1
    difference = _difference(_waves(*size, quality=95), spec)
    assert difference.mean() < 1.0
    assert difference.max() <= 16


def test_a_turned_picture_too() -> None:
    exif = Image.Exif()
    for orientation in range(1, 9):
        exif[0x0112] = orientation
        difference = _difference(_waves(805, 603, exif=exif, quality=95), PixelSpec(48, 48))
        assert difference.mean() < 1.0, orientation


def test_small_pictures_are_the_same() -> None:
    for size in ((140, 100), (71, 95), (20, 30)):
        assert scale_factor(*size, PixelSpec(96, 96)) == 1
        assert not _difference(_waves(*size), PixelSpec(96, 96)).any()


@pytest.mark.parametrize(
    ("size", "resize", "factor"),
    [
        ((1000, 750), "shortest", 2),
        ((4000, 3000), "shortest", 4),
        ((8000, 6000), "shortest", 8),
        ((4000, 300), "shortest", 1),
        ((4000, 300), "squash", 1),
        ((4000, 300), "longest", 8),
    ],
)
def test_the_side_that_decides_keeps_its_margin(size: tuple[int, int], resize: Any, factor: int) -> None:
    assert scale_factor(*size, PixelSpec(224, 224, resize=resize)) == factor


def test_bad_pictures_are_bad_as_ever() -> None:
    with pytest.raises(PictureError, match="cut short"):
        load_scaled_pixels(_waves(1000, 750)[:-2000], PixelSpec(48, 48))
