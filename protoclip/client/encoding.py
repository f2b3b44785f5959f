"""Arrays and PIL images as the bytes of PNG files, which lose nothing; what PNG can't hold as TIFF."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ImageFile import ImageFile

from protoclip.contract.opening import BROKEN, one_line
from protoclip.contract.orientation import exif_orientation, upright
from protoclip.contract.pixels import to_rgb
from protoclip.contract.rgb import as_meant

from .errors import BadItem

_PNG_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})
_WHITE = (255, 255, 255)
_MAX_PROFILE_IN_PNG = 2**20  # Pillow reads no larger ones


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

    Whether the profile is applied, the model says. CMYK with a profile, and profiles above 1 MiB, become a TIFF.
    An image that was opened from a file shows what the file would, also where Pillow alone reads it wrongly; but
    of a BMP Pillow gives no colour profile: send the file.

    Raises:
        BadItem: closed, cut short, a TIFF of a kind that is not read, or of a mode without an agreed way to RGB.
    """
    try:
        meant = as_meant(image) if isinstance(image, ImageFile) else image
        turned = upright(meant, exif_orientation(image))
        profile = turned.info.get("icc_profile") or b""
        if turned.mode == "CMYK" and profile:
            return _tiff(turned)
        stored = turned if turned.mode in _PNG_MODES else _for_png(turned)
        return _png(stored) if len(profile) <= _MAX_PROFILE_IN_PNG else _tiff(_with_alpha_channel(stored))
    except BROKEN as error:
        raise BadItem(f"the PIL image can't be sent: {one_line(error)}") from error


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


def _with_alpha_channel(image: Image.Image) -> Image.Image:
    """What is transparent by a colour made so by a channel: TIFF has no such colour."""
    if "transparency" not in image.info:
        return image
    return image.convert("LA" if image.mode in ("1", "L") else "RGBA")


def _tiff(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    # Of a TIFF that was opened, Pillow would write further tags, with an orientation that has been applied.
    image.copy().save(stream, format="TIFF", compression="tiff_lzw")
    return stream.getvalue()


def _png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    # A fast compression level: the bytes are sent only once.
    image.save(stream, format="PNG", compress_level=1)
    return stream.getvalue()
