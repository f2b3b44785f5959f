"""Pixels, one implementation: from picture bytes to uint8 [H, W, 3] for training, server and client.

This file needs NumPy, Pillow (10.4 or newer), and `picture_files.py` and `resizing.py` beside it: the Triton
preprocessing model carries copies of the three. It changes none of Pillow's global settings and may be used
from several threads.

Colour profiles (ICC) are ignored: the models were trained on pictures read that way. AVIF, HEIC and
JPEG 2000 are left out, because not every Pillow reads them, and training, server and client must agree.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from io import BytesIO
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.PngImagePlugin import PngImageFile

from .picture_files import describe_unsupported, find_reader
from .resizing import RESAMPLING, fill_and_crop, fit_inside, resize

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
_ORIENTATION = 0x0112
_PHOTOMETRIC, _WHITE_IS_ZERO = 0x0106, 0
_RESIZES = ("shortest", "longest", "squash")
_CONVERTIBLE = {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV"}
# PNG's transparent grey counts in the file's bit depth, Pillow's pixels always in 8 bits.
_GREY_STEPS = {"L;2": 85, "L;4": 17}


class PictureError(ValueError):
    """A picture can't be read, or is beyond a limit; the message is one line."""


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

    def __post_init__(self) -> None:
        for name in ("height", "width", "max_bytes", "max_pixels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be 1 or more")
        if self.resize not in _RESIZES or self.interpolation not in RESAMPLING:
            raise ValueError(
                f"resize={self.resize!r}, interpolation={self.interpolation!r}: "
                f"must be of {_RESIZES} and {tuple(RESAMPLING)}"
            )


def load_pixels(data: bytes, spec: PixelSpec) -> NDArray[np.uint8]:
    """The encoder's input from a picture file's bytes: uint8 `[H, W, 3]`, RGB, not normalised.

    Raises:
        PictureError: as `decode_rgb`.
    """
    return fit(decode_rgb(data, spec), spec)


def decode_rgb(data: bytes, spec: PixelSpec) -> Image.Image:
    """Decodes a picture file into an upright 8-bit RGB image of its own size.

    Reads JPEG, PNG, WebP, GIF, BMP and TIFF; the first picture of an animation. The EXIF orientation is
    applied (a broken one ignored), transparency is blended with `spec.background`, 16-bit grey is scaled to 8.

    Rows that the header declares but complete data does not contain are grey in a JPEG, as in browsers, and
    black in a PNG.

    Raises:
        PictureError: no picture, another format, damaged or cut short, or beyond a limit of `spec`.
    """
    image = _read_header(data, spec)
    try:
        _scale_transparency(image)
        image.load()
        rgb = to_rgb(_without_unused_alpha(image), spec.background)
    except PictureError:
        raise
    except _BROKEN as error:
        raise PictureError(f"the picture is damaged or cut short: {_one_line(error)}") from error
    orientation = _orientation(image)
    return rgb.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else rgb


def to_rgb(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """An 8-bit RGB image of the same size; `image` itself if it is one already.

    16-bit grey (modes I;16 and I) is divided by 257 and rounded. Transparent pixels are blended with
    `background`. CMYK becomes `(1 - ink) · (1 - black)`.

    Raises:
        PictureError: a mode without a standard conversion to RGB (floating point, 32-bit grey, LAB).
    """
    if image.mode == "I" or image.mode.startswith("I;16"):
        image = _grey_from_16_bits(image)
    if image.mode not in _CONVERTIBLE:
        raise PictureError(f"pixels of mode {image.mode} have no agreed way to RGB: save it as 8-bit RGB")
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    layer = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    canvas = Image.new("RGB", image.size, background)
    canvas.paste(layer, mask=layer)
    return canvas


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
    try:
        image = reader(BytesIO(data), "")
    except _BROKEN as error:
        raise PictureError(f"the picture's header is damaged: {_one_line(error)}") from error
    width, height = image.size
    if width * height > spec.max_pixels:
        raise PictureError(
            f"the picture has {width} x {height} pixels, the limit is {spec.max_pixels}: make it smaller"
        )
    return image


def _without_unused_alpha(image: ImageFile) -> Image.Image:
    """Programs that know no alpha write 32-bit BMPs whose fourth byte is 0 everywhere: it is none."""
    if image.format == "BMP" and image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0):
        return image.convert("RGB")
    return image


def _scale_transparency(image: ImageFile) -> None:
    transparent = image.info.get("transparency")
    mode = image.tile[0][3] if isinstance(image, PngImageFile) and image.tile else None
    if isinstance(transparent, int) and mode == "1":
        image.info["transparency"] = 255 if transparent else 0
    elif isinstance(transparent, int) and mode in _GREY_STEPS:
        image.info["transparency"] = transparent * _GREY_STEPS[mode]
    elif isinstance(transparent, tuple) and mode == "RGB;16B":
        image.info["transparency"] = tuple(value >> 8 for value in transparent)


def _grey_from_16_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    if getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == _WHITE_IS_ZERO and image.mode != "I":
        values = 65535 - values  # Pillow inverts such TIFFs up to 8 bits only
    if values.min() < 0 or values.max() > 65535:
        raise PictureError("32-bit grey has no agreed range: save the picture with 8 or 16 bits")
    grey = Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return grey


def _orientation(image: ImageFile) -> int:
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except _BROKEN:
        return 1
    return value if isinstance(value, int) else 1


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
