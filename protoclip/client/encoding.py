"""Arrays and PIL images as the bytes of PNG files, which lose nothing; of inks with a profile as TIFF."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from protoclip.contract.pixels import to_rgb

from .errors import BadItem

_PNG_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})
_WHITE = (255, 255, 255)


def array_png(array: NDArray[Any]) -> bytes:
    """An array as a PNG file.

    Raises:
        BadItem: not uint8 `[H, W, 3]` or `[H, W]`, or without pixels.
    """
    if array.dtype != np.uint8:
        raise BadItem(f"an array of {array.dtype}: give uint8 from 0 to 255, as in (255 * array).astype('uint8')")
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)):
        raise BadItem(f"an array of shape {array.shape}: give [H, W, 3] or [H, W], and several pictures as a list")
    if array.size == 0:
        raise BadItem(f"an array of shape {array.shape} has no pixels")
    return _png(Image.fromarray(np.ascontiguousarray(array)))


def image_png(image: Image.Image) -> bytes:
    """A PIL image as a PNG file, upright, with its transparency, its 16 bits and its colour profile.

    Whether the profile is applied, the model says. PNG has no inks: CMYK with a profile becomes a TIFF.

    Raises:
        BadItem: closed, cut short, or of a mode without an agreed way to RGB.
    """
    try:
        upright = _upright(image)
        if upright.mode == "CMYK" and upright.info.get("icc_profile"):
            return _tiff(upright)
        return _png(upright if upright.mode in _PNG_MODES else _for_png(upright))
    except (OSError, ValueError, SyntaxError) as error:
        raise BadItem(f"the PIL image can't be sent: {error}") from error


def _for_png(image: Image.Image) -> Image.Image:
    """In a mode that PNG has and that the image's colour profile is for."""
    if image.has_transparency_data:
        # The colour behind transparent pixels depends on the model, so they stay transparent here.
        return image.convert("LA" if image.mode == "La" else "RGBA")
    rgb = to_rgb(image, _WHITE)
    if not image.mode.startswith("I"):
        return rgb
    grey = rgb.convert("L")
    grey.info = {key: value for key, value in image.info.items() if key == "icc_profile"}
    return grey


def _upright(image: Image.Image) -> Image.Image:
    """Applies the EXIF orientation, as the server would to the file: saving as PNG drops it by default."""
    try:
        return ImageOps.exif_transpose(image)
    except (OSError, ValueError, SyntaxError, TypeError, LookupError, struct.error):
        # The server ignores broken EXIF data too; broken pixels raise when the PNG is written.
        return image


def _tiff(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format="TIFF", compression="tiff_lzw")
    return stream.getvalue()


def _png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    # A fast compression level: the bytes are sent only once.
    image.save(stream, format="PNG", compress_level=1)
    return stream.getvalue()
