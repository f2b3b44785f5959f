"""Pixels, one implementation: from picture bytes to uint8 [H, W, 3] for training, server and client.

This file needs NumPy, Pillow (11.3 or newer), and the files that it imports beside it: the Triton preprocessing
model carries copies of them all. It changes none of Pillow's global settings and may be used from several threads.

A colour profile (ICC) is applied or not as the specification says: models learn from the one or the other. What
says colours otherwise is not read: PNG's gAMA, cHRM and cICP, and the code points (nclx) of AVIF and HEIC.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile

from .bmp_kinds import has_16_bit_alpha
from .jpeg_xl import read_jpeg_xl_header
from .picture_files import describe_unsupported, find_kind, find_reader
from .resizing import RESAMPLING, fill_and_crop, fit_inside, resize
from .rgb import PictureError, scale_transparency, to_rgb, without_unused_alpha
from .tiff_kinds import mend, other_kind, read_tags, unreadable_kind

__all__ = ["PictureError", "PixelSpec", "Reduced", "decode_reduced", "decode_rgb", "fit", "load_pixels", "to_rgb"]

_BROKEN = (
    OSError,
    SyntaxError,  # Pillow's for a broken header
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    EOFError,
    MemoryError,
    RuntimeError,
    AssertionError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Warning,  # where the application makes warnings errors
)
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Turned upright by these, the last column, or the last row, of the stored pixels comes first.
_FROM_RIGHT, _FROM_BOTTOM = (2, 3, 6, 7), (3, 4, 7, 8)
_FIRST_ON_ITS_SIDE = 5
_ORIENTATION = 0x0112
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
    image = _read_header(data, spec)
    try:
        scale_transparency(image)
        size = image.size
        factor = _reduce_in_decoder(image, choose)
        image.load()
        rgb = to_rgb(without_unused_alpha(image), spec.background, _profile(image, spec))
    except PictureError:
        raise
    except _BROKEN as error:
        raise PictureError(f"the picture is damaged or cut short: {_one_line(error)}") from error
    orientation = _orientation(image)
    upright = rgb.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else rgb
    if factor is not None:
        width, height = _turned(size, orientation)
        left = upright.width - width / factor if orientation in _FROM_RIGHT else 0.0
        top = upright.height - height / factor if orientation in _FROM_BOTTOM else 0.0
        return Reduced(upright, width, height, factor, left, top)
    factor = choose(*upright.size)
    return Reduced(upright if factor == 1 else upright.reduce(factor), *upright.size, factor)


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


def _read_header(data: bytes, spec: PixelSpec) -> ImageFile:
    if not data:
        raise PictureError("the picture is empty: 0 bytes")
    if len(data) > spec.max_bytes:
        raise PictureError(f"the picture has {len(data)} bytes, the limit is {spec.max_bytes}: make it smaller")
    reader = find_reader(data)
    if reader is None:
        raise PictureError(f"this is {describe_unsupported(data)}")
    kind = find_kind(data)
    tags: Mapping[int, Any] = {}
    try:
        if kind == "TIFF":
            tags = read_tags(data)
            if (unreadable := unreadable_kind(tags)) is not None:
                raise PictureError(_no_such_tiff(unreadable))
        elif kind == "JPEG XL":  # its reader decodes at once
            _check_jpeg_xl(data, spec)
        elif kind == "BMP" and has_16_bit_alpha(data):
            raise PictureError("a BMP of 16 bits with transparency is not read: save it as PNG")
        image = reader(BytesIO(data), "")
        if isinstance(image, TiffImageFile):
            mend(image)
        if kind == "JPEG XL" and image.mode == "LA":
            _check_grey_with_alpha(image)
    except PictureError:
        raise
    except _BROKEN as error:
        if str(error) == "unknown pixel mode" and tags:
            raise PictureError(_no_such_tiff(other_kind(tags))) from error
        if str(error) == "Unsupported BMP bitfields layout":
            raise PictureError("a BMP with these bit masks is not read: save it as PNG") from error
        raise PictureError(f"the picture's header is damaged: {_one_line(error)}") from error
    _check_size(image.size, spec)
    return image


def _check_size(size: tuple[int, int], spec: PixelSpec) -> None:
    width, height = size
    if width * height > spec.max_pixels:
        raise PictureError(
            f"the picture has {width} x {height} pixels, the limit is {spec.max_pixels}: make it smaller"
        )


def _check_jpeg_xl(data: bytes, spec: PixelSpec) -> None:
    header = read_jpeg_xl_header(data)
    _check_size(header.size, spec)
    if header.animated:  # its reader gives the last picture
        raise PictureError("an animated JPEG XL is not read: save its first picture as PNG")


def _check_grey_with_alpha(image: ImageFile) -> None:
    # Of 16 bits, the reader of JPEG XL gives the two bytes of each sample out as two samples.
    if len(getattr(image, "_data", b"")) > 2 * math.prod(image.size):
        raise PictureError("a JPEG XL of grey with alpha of 16 bits is not read: save it with 8 bits")


def _no_such_tiff(kind: str) -> str:
    return f"a TIFF of {kind} is not read: save it as 8-bit RGB or grey"


def _reduce_in_decoder(image: ImageFile, choose: Callable[[int, int], int]) -> int | None:
    """The factor by which a JPEG will be decoded smaller; None for what has to be reduced afterwards."""
    if not isinstance(image, JpegImageFile):
        return None
    factor = choose(*_turned(image.size, _orientation(image)))
    if factor > 1:
        # Pillow takes the largest factor that leaves this size.
        before = image.size
        image.draft(None, (image.width // factor, image.height // factor))
        if image.size == before:
            return None
    return factor


def _turned(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    return size[::-1] if orientation >= _FIRST_ON_ITS_SIDE and orientation in _UPRIGHT else size


def _profile(image: ImageFile, spec: PixelSpec) -> bytes | None:
    """The picture's ICC profile where it is to be applied; None where there is none."""
    if spec.color_management == "stored" or "icc_profile" not in image.info:
        return None
    profile = image.info["icc_profile"]
    if not isinstance(profile, bytes) or not profile:  # Pillow's for one of which parts are missing
        raise PictureError("the picture's colour profile is cut short: save it anew in sRGB, or without it")
    return profile


def _orientation(image: ImageFile) -> int:
    # The decoder of JPEG XL turns as its own header says, and EXIF data has no say; but a JPEG inside a JPEG XL is
    # given out as it lay there. HEIC is turned by its decoder too, which mends the EXIF data itself.
    if image.format == "JXL" and not getattr(image, "jpeg", False):
        return 1
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except _BROKEN:
        return 1
    return value if isinstance(value, int) else 1


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
