"""From every mode of Pillow's images to 8-bit RGB, managed by the picture's colour profile or as stored.

This file needs NumPy and Pillow, and `color_profiles.py` and `tiff_kinds.py` beside it: the Triton preprocessing
model carries copies of them, beside `pixels.py`.
"""

from __future__ import annotations

import numpy as np
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from .color_profiles import Channels, ProfileError, conversion
from .tiff_kinds import counts_from_white, has_12_bits, has_unnamed_alpha, palette_of_8_bits, unreadable_kind

_CONVERTIBLE = {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV"}
_GREY_MODES = {"1", "L", "LA", "La"}
# PNG's transparent grey counts in the file's bit depth, Pillow's pixels always in 8 bits.
_GREY_STEPS = {"L;2": 85, "L;4": 17}


class PictureError(ValueError):
    """A picture can't be read, or is beyond a limit; the message is one line."""


def to_rgb(image: Image.Image, background: tuple[int, int, int], profile: bytes | None = None) -> Image.Image:
    """An 8-bit RGB image of the same size; `image` itself if it is one already.

    16-bit grey (modes I;16 and I) is divided by 257 and rounded. Transparent pixels are blended with
    `background`. CMYK becomes `(1 - ink) · (1 - black)` where there is no profile.

    Args:
        profile: the ICC profile that the pixels are converted from, to sRGB; None: they are taken as they are.

    Raises:
        PictureError: a mode without a standard conversion to RGB (floating point, 32-bit grey, LAB), or a
            profile that is damaged or for other pixels.
    """
    if image.mode == "I" or image.mode.startswith("I;16"):
        image = _grey_from_16_bits(image)
    if image.mode not in _CONVERTIBLE:
        raise PictureError(f"pixels of mode {image.mode} have no agreed way to RGB: save it as 8-bit RGB")
    managed = None if profile is None else _managed(image, profile)
    if not image.has_transparency_data:
        if managed is not None:
            return managed
        return image if image.mode == "RGB" else image.convert("RGB")
    layer = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    canvas = Image.new("RGB", image.size, background)
    canvas.paste(managed or layer, mask=layer)
    return canvas


def as_meant(image: ImageFile) -> Image.Image:
    """The pixels of an opened file as the file means them: `image`, loaded, or a copy where Pillow errs.

    It errs in transparent values of PNGs with few bits (mended in `image` itself, if it is not loaded yet), in
    TIFFs of 12 bits, of 16 that count from white, and with colour maps of 8, and in an alpha of 0 everywhere that
    is not meant.

    Raises:
        PictureError: a TIFF of a kind that can't be shown rightly.
        Exception: as Pillow raises where the file is damaged.
    """
    if isinstance(image, TiffImageFile):
        return _tiff_as_meant(image)
    _scale_transparency(image)
    image.load()
    return _without_unused_alpha(image) if image.format == "BMP" else image


def no_such_tiff(kind: str) -> PictureError:
    """The error for a TIFF of a kind that is not read."""
    return PictureError(f"a TIFF of {kind} is not read: save it as 8-bit RGB or grey")


def _scale_transparency(image: ImageFile) -> None:
    """Brings a PNG's transparent value to the 8 bits of Pillow's pixels; the file's are known before loading."""
    transparent = image.info.get("transparency")
    mode = image.tile[0][3] if isinstance(image, PngImageFile) and image.tile else None
    if isinstance(transparent, int) and mode == "1":
        image.info["transparency"] = 255 if transparent else 0
    elif isinstance(transparent, int) and mode in _GREY_STEPS:
        image.info["transparency"] = transparent * _GREY_STEPS[mode]
    elif isinstance(transparent, tuple) and mode == "RGB;16B":
        image.info["transparency"] = tuple(value >> 8 for value in transparent)


def _tiff_as_meant(image: TiffImageFile) -> Image.Image:
    kind = unreadable_kind(image.tag_v2)
    if kind is not None:
        raise no_such_tiff(kind)
    image.load()
    if image.mode.startswith("I;16") and (has_12_bits(image) or counts_from_white(image)):
        values = np.asarray(image).astype(int)
        if has_12_bits(image):
            values = values * 16 + values // 256  # 4095 to 65535
        if counts_from_white(image):
            values = 65535 - values  # Pillow inverts such TIFFs up to 8 bits only
        meant = Image.fromarray(values.astype(np.uint16))
        meant.info = dict(image.info)
        return meant
    palette = palette_of_8_bits(image)
    if palette is not None:
        meant = image.copy()
        meant.palette = palette
        return meant
    return _without_unused_alpha(image) if has_unnamed_alpha(image) else image


def _without_unused_alpha(image: ImageFile) -> Image.Image:
    """Without an alpha that is 0 everywhere.

    Programs that know no alpha write 32-bit BMPs whose fourth byte is 0, and TIFFs with a fourth sample that they
    don't name.
    """
    if image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0):
        return image.convert("RGB")
    return image


def _managed(image: Image.Image, profile: bytes) -> Image.Image | None:
    """The colours in sRGB, without alpha; None where they are in sRGB already."""
    channels: Channels = "CMYK" if image.mode == "CMYK" else "L" if image.mode in _GREY_MODES else "RGB"
    try:
        found = conversion(profile, channels)
        if found is None:
            return None
        taken, transform = found
        return transform.apply(_without_alpha(image, taken))
    except ProfileError as error:
        raise PictureError(f"the picture's colour profile {error}: save it anew in sRGB, or without it") from error


def _without_alpha(image: Image.Image, channels: Channels) -> Image.Image:
    if image.mode == "La":
        image = image.convert("LA")
    if channels == "RGB" and image.mode != "RGB":
        # By way of RGBA, so that premultiplied and palette colours are what they would be without a profile.
        image = image.convert("RGBA") if image.has_transparency_data else image
    return image if image.mode == channels else image.convert(channels)


def _grey_from_16_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise PictureError("32-bit grey has no agreed range: save the picture with 8 or 16 bits")
    grey = Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return grey
