"""Pixels, one implementation: from picture bytes to uint8 [H, W, 3] for training, server and client.

This file needs NumPy, Pillow (11.3 or newer), and the files that it imports beside it: the Triton preprocessing
model carries copies of them all. It changes none of Pillow's global settings and may be used from several threads.

A colour profile (ICC) is applied or not as the specification says: models learn from the one or the other. What
says colours otherwise is not read: PNG's gAMA, cHRM and cICP, a BMP's primaries, a GIF's profile, and the code
points (nclx) of AVIF and HEIC.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile

from .opening import BROKEN, count_pixels, one_line, open_picture
from .orientation import FROM_BOTTOM, FROM_RIGHT, exif_orientation, upright, upright_size
from .resizing import RESAMPLING, fill_and_crop, fit_inside, resize
from .rgb import PictureError, as_meant, to_rgb

__all__ = [
    "PictureError",
    "PixelSpec",
    "Reduced",
    "count_pixels",
    "decode_reduced",
    "decode_rgb",
    "fit",
    "load_pixels",
    "to_rgb",
]

_RESIZES = ("shortest", "longest", "squash")
_COLOR_MANAGEMENTS = ("srgb", "stored")


@dataclass(frozen=True)
class PixelSpec:
    """How a picture becomes the encoder's input.

    Attributes:
        height, width: the encoder's input, in pixels.
        resize: "shortest" side to the target, then centre crop; "longest" side to the target, then padding
            on both sides; "squash" to the target without keeping the proportions.
        interpolation: always with antialiasing where it shrinks, except "nearest".
        fill: RGB colour of the padding of "longest".
        background: RGB colour behind transparent pixels.
        max_bytes: larger files are refused unread.
        max_pixels: pictures with more pixels are refused by their header.
        color_management: "srgb" converts the colours of an embedded ICC profile to sRGB; "stored" takes the
            pixels as they are.

    Raises:
        ValueError: a size or limit below 1, or an unknown mode.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012  what the manifest's reader does with unknown fields

    height: int
    width: int
    resize: Literal["shortest", "longest", "squash"] = "shortest"
    interpolation: Literal["bicubic", "bilinear", "nearest"] = "bicubic"
    fill: tuple[int, int, int] = (0, 0, 0)
    background: tuple[int, int, int] = (255, 255, 255)
    max_bytes: int = 32 * 1024 * 1024
    max_pixels: int = 100_000_000
    # What all models were trained with before there was a choice, and published ones are.
    color_management: Literal["srgb", "stored"] = "stored"

    def __post_init__(self) -> None:
        for name in ("height", "width", "max_bytes", "max_pixels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be 1 or more")
        if self.resize not in _RESIZES or self.interpolation not in RESAMPLING:
            raise ValueError(
                f"resize={self.resize!r}, interpolation={self.interpolation!r}: "
                f"must be of {_RESIZES} and {tuple(RESAMPLING)}"
            )
        if self.color_management not in _COLOR_MANAGEMENTS:
            raise ValueError(f"color_management={self.color_management!r}: must be of {_COLOR_MANAGEMENTS}")


@dataclass(frozen=True)
class Reduced:
    """An upright RGB picture at 1/`factor` of its size.

    Attributes:
        image: its sides are the picture's over `factor`, rounded up.
        width, height: of the picture itself.
        left, top: where the picture begins in `image`, in pixels of it, 0 or what was rounded up.
    """

    image: Image.Image
    width: int
    height: int
    factor: int = 1
    left: float = 0.0
    top: float = 0.0

    def place(self, box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        """A box (left, top, right, bottom) of the picture, in pixels of `image`."""
        left, top, right, bottom = (edge / self.factor for edge in box)
        # Rounding must not carry it over the edge, which Pillow refuses.
        right, bottom = min(right + self.left, self.image.width), min(bottom + self.top, self.image.height)
        return left + self.left, top + self.top, right, bottom


def load_pixels(data: bytes, spec: PixelSpec) -> NDArray[np.uint8]:
    """The encoder's input from a picture file's bytes: uint8 `[H, W, 3]`, RGB, not normalised.

    Raises:
        PictureError: as `decode_rgb`.
    """
    return fit(decode_rgb(data, spec), spec)


def decode_rgb(data: bytes, spec: PixelSpec) -> Image.Image:
    """Decodes a picture file into an upright 8-bit RGB image of its own size.

    Reads JPEG, PNG, WebP, GIF, BMP, TIFF and AVIF, and HEIC and JPEG XL where their packages are installed; the
    first picture of an animation. The EXIF orientation is applied (a broken one ignored; in HEIC and JPEG XL only
    their own counts), colours become sRGB or stay as stored, transparency is blended with `spec.background`,
    16-bit grey is scaled to 8.

    Rows that the header declares but complete data does not contain are grey in a JPEG, as in browsers, and
    black in a PNG.

    Raises:
        PictureError: no picture, another format, damaged or cut short, a TIFF of a kind that can't be shown
            rightly, a colour profile that can't be used, or beyond a limit of `spec`.
    """
    return decode_reduced(data, spec, lambda width, height: 1).image


def decode_reduced(data: bytes, spec: PixelSpec, choose: Callable[[int, int], int]) -> Reduced:
    """As `decode_rgb`, at a part of the picture's size: the means of blocks of pixels, of a JPEG by its decoder.

    Args:
        choose: width and height of the upright picture → the factor: 1, 2, 4 or 8.

    Raises:
        PictureError: as `decode_rgb`.
    """
    image = open_picture(data, spec.max_bytes, spec.max_pixels)
    try:
        size = image.size
        factor = _reduce_in_decoder(image, choose)
        rgb = to_rgb(as_meant(image), spec.background, _profile(image, spec))
    except PictureError:
        raise
    except BROKEN as error:
        raise PictureError(f"the picture is damaged or cut short: {one_line(error)}") from error
    orientation = exif_orientation(image)
    turned = upright(rgb, orientation)
    if factor is not None:
        width, height = upright_size(size, orientation)
        left = turned.width - width / factor if orientation in FROM_RIGHT else 0.0
        top = turned.height - height / factor if orientation in FROM_BOTTOM else 0.0
        return Reduced(turned, width, height, factor, left, top)
    factor = choose(*turned.size)
    return Reduced(turned if factor == 1 else turned.reduce(factor), *turned.size, factor)


def fit(image: Image.Image, spec: PixelSpec) -> NDArray[np.uint8]:
    """Resizes to the encoder's input: uint8 `[H, W, 3]`, equal to open_clip's evaluation transform.

    Follows `open_clip.transform.image_transform_v2` before `ToTensor`, bit for bit, with its two rounding
    modes in "shortest". Where that depends on Pillow's version (tall pictures that are squashed, or very
    thin), the result is that of Pillow before 13. It differs only where open_clip needs gigabytes or
    fails: for pictures so long that a step of the resize exceeds 16 million pixels, only the centre is
    computed, or the vertical pass comes before the horizontal (components differ by rounding); and a side
    that "longest" would round to 0 keeps 1 pixel.

    Args:
        image: any mode; made RGB by `to_rgb`.

    Raises:
        PictureError: as `to_rgb`.
    """
    image, target = to_rgb(image, spec.background), (spec.width, spec.height)
    if spec.resize == "squash":
        image = resize(image, target, spec.interpolation)
    elif spec.resize == "longest":
        image = fit_inside(image, target, spec.interpolation, spec.fill)
    else:
        image = fill_and_crop(image, target, spec.interpolation)
    return np.array(image, dtype=np.uint8)


def _reduce_in_decoder(image: ImageFile, choose: Callable[[int, int], int]) -> int | None:
    """The factor by which a JPEG will be decoded smaller; None for what has to be reduced afterwards."""
    if not isinstance(image, JpegImageFile):
        return None
    factor = choose(*upright_size(image.size, exif_orientation(image)))
    if factor > 1:
        # Pillow takes the largest factor that leaves this size.
        before = image.size
        image.draft(None, (max(1, image.width // factor), max(1, image.height // factor)))
        if image.size == before:
            return None
    return factor


def _profile(image: ImageFile, spec: PixelSpec) -> bytes | None:
    """The picture's ICC profile where it is to be applied; None where there is none."""
    if spec.color_management == "stored" or "icc_profile" not in image.info:
        return None
    profile = image.info["icc_profile"]
    if not isinstance(profile, bytes) or not profile:  # Pillow's for one of which parts are missing
        raise PictureError("the picture's colour profile is cut short: save it anew in sRGB, or without it")
    return profile
