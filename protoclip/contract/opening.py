"""Picture files opened and not decoded yet: their kind, their size, and what can't be read rightly, by name.

This file needs Pillow, and the files that it imports beside it: the Triton preprocessing model carries copies of
them, beside `pixels.py`.
"""

from __future__ import annotations

import math
import struct
import zlib
from io import BytesIO

from PIL import Image
from PIL.ImageFile import ImageFile

from .bmp_kinds import embedded_profile, has_16_bit_alpha
from .jpeg_xl import read_jpeg_xl_header
from .picture_files import Reader, describe_unsupported, find_kind, find_reader
from .rgb import PictureError, no_such_tiff
from .tiff_kinds import BIG_ENDIAN_BIG_TIFF, is_preview, other_kind, read_tags, unreadable_kind

BROKEN = (
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
"""What Pillow and the packages for it raise for damaged files."""


def open_picture(data: bytes, max_bytes: int, max_pixels: int) -> ImageFile:
    """The picture of a file, by Pillow, whose pixels are decoded when it is loaded.

    Raises:
        PictureError: no picture, another format, a damaged header, a kind that can't be shown rightly, or more
            than `max_bytes` or `max_pixels`.
    """
    if not data:
        raise PictureError("the picture is empty: 0 bytes")
    if len(data) > max_bytes:
        raise PictureError(f"the picture has {len(data)} bytes, the limit is {max_bytes}: make it smaller")
    reader = find_reader(data)
    if reader is None:
        raise PictureError(f"this is {describe_unsupported(data)}")
    try:
        image = _open(data, reader, max_pixels)
    except PictureError:
        raise
    except BROKEN as error:
        raise PictureError(_named(error) or f"the picture's header is damaged: {one_line(error)}") from error
    _check_size(image.size, max_pixels)
    return image


def count_pixels(data: bytes, max_pixels: int) -> int:
    """Pixels of a picture by its file's header, without decoding; 0 where `open_picture` would refuse it."""
    try:
        if find_kind(data) == "JPEG XL":
            width, height = read_jpeg_xl_header(data).size
        else:
            reader = find_reader(data)
            width, height = (0, 0) if reader is None else reader(BytesIO(data), "").size
    except (PictureError, *BROKEN):
        return 0
    return width * height if width * height <= max_pixels else 0


def one_line(error: BaseException) -> str:
    """What an error says, for the end of a message."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def _open(data: bytes, reader: Reader, max_pixels: int) -> ImageFile:
    kind = find_kind(data)
    if kind == "TIFF":
        return _open_tiff(data, reader)
    if kind == "BMP":
        return _open_bmp(data, reader)
    if kind == "JPEG XL":
        return _open_jpeg_xl(data, reader, max_pixels)
    return reader(BytesIO(data), "")


def _open_tiff(data: bytes, reader: Reader) -> ImageFile:
    if data.startswith(BIG_ENDIAN_BIG_TIFF):
        raise no_such_tiff("big-endian byte order with offsets of 64 bits")
    tags = read_tags(data)
    if (unreadable := unreadable_kind(tags)) is not None:
        raise no_such_tiff(unreadable)
    if is_preview(tags):
        raise no_such_tiff("a preview first and the picture elsewhere, as cameras' raw files have it")
    try:
        return reader(BytesIO(data), "")
    except SyntaxError as error:
        if str(error) == "unknown pixel mode":
            raise no_such_tiff(other_kind(tags)) from error
        raise


def _open_bmp(data: bytes, reader: Reader) -> ImageFile:
    if has_16_bit_alpha(data):
        raise PictureError("a BMP of 16 bits with transparency is not read: save it as PNG")
    image = reader(BytesIO(data), "")
    profile = embedded_profile(data)
    if profile is not None:
        image.info["icc_profile"] = profile
    return image


def _open_jpeg_xl(data: bytes, reader: Reader, max_pixels: int) -> ImageFile:
    """Its reader decodes at once, so that the header is looked at before."""
    header = read_jpeg_xl_header(data)
    _check_size(header.size, max_pixels)
    if header.animated:  # its reader gives the last picture
        raise PictureError("an animated JPEG XL is not read: save its first picture as PNG")
    image = reader(BytesIO(data), "")
    # Of 16 bits, the reader gives the two bytes of each sample out as two samples.
    if image.mode == "LA" and len(getattr(image, "_data", b"")) > 2 * math.prod(image.size):
        raise PictureError("a JPEG XL of grey with alpha of 16 bits is not read: save it with 8 bits")
    return image


def _named(error: BaseException) -> str | None:
    """What Pillow doesn't read of a kind that it reads otherwise."""
    if str(error) == "Unsupported BMP bitfields layout":
        return "a BMP with these bit masks is not read: save it as PNG"
    if "PngImagePlugin.MAX_TEXT" in str(error):
        return "a PNG with more than 1 MiB of text, or of a colour profile, in a part is not read: save it without"
    return None


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise PictureError(
            f"the picture has {width} x {height} pixels, the limit is {max_pixels}: make it smaller"
        )
