"""Arrays and PIL images as the bytes of PNG files, which lose nothing."""

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
    """A PIL image as a PNG file, upright, with its transparency and its 16 bits.

    Raises:
        BadItem: closed, cut short, or of a mode without an agreed way to RGB.
    """
    try:
        upright = _upright(image)
        if upright.mode in _PNG_MODES:
            return _png(upright)
        # The colour behind transparent pixels depends on the model, so they stay transparent here.
        return _png(upright.convert("RGBA") if upright.has_transparency_data else to_rgb(upright, _WHITE))
    except (OSError, ValueError, SyntaxError) as error:
        raise BadItem(f"the PIL image can't be sent: {error}") from error


def _upright(image: Image.Image) -> Image.Image:
    """Applies the EXIF orientation, as the server would to the file: saving as PNG drops it by default."""
    try:
        return ImageOps.exif_transpose(image)
    except (OSError, ValueError, SyntaxError, TypeError, LookupError, struct.error):
        # The server ignores broken EXIF data too; broken pixels raise when the PNG is written.
        return image


def _png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    # A fast compression level: the bytes are sent only once.
    image.save(stream, format="PNG", compress_level=1)
    return stream.getvalue()
