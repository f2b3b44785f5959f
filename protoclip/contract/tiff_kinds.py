"""TIFFs that Pillow reads wrongly or not at all: recognised by their tags, and named with the way out.

This file needs Pillow only: the Triton preprocessing model carries a copy of it, beside `pixels.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import Any

from PIL import ImagePalette
from PIL.TiffImagePlugin import COMPRESSION_INFO, ImageFileDirectory_v2, TiffImageFile

_BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _PLANAR = 258, 259, 262, 277, 284
_COLOR_MAP, _SUB_PAGES, _INK_SET, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 320, 330, 332, 338, 339
_SUBFILE_TYPE, _OLD_SUBFILE_TYPE, _SMALLER, _UNCOMPRESSED, _SEPARATE = 254, 255, 2, 1, 2
_GREY, _COLORS, _INKS, _YCBCR, _LAB = (0, 1), 2, 5, 6, (8, 9, 10)
_SAMPLE_FORMATS = {2: "signed samples", 3: "floating-point samples", 5: "complex samples", 6: "complex samples"}
_RARE_COLORS = {
    4: "a transparency mask and no picture",
    **dict.fromkeys(_LAB, "Lab colours"),
    32803: "a camera's raw samples",
    34892: "a camera's raw samples",
    32844: "LogLuv samples",
    32845: "LogLuv samples",
}
_RARE_COMPRESSIONS = dict.fromkeys((33003, 33004, 33005, 34712), " (JPEG 2000)") | {
    34887: " (LERC)",
    50002: " (JPEG XL)",
}
_STRIPS, _TILES = 273, 324
_DEPTHS = {1, 2, 4, 8, 16}
# Pillow takes its offsets for those of 32 bits.
BIG_ENDIAN_BIG_TIFF = b"MM\0+"


def read_tags(data: bytes) -> ImageFileDirectory_v2:
    """The tags of a TIFF's first page.

    Raises:
        Exception: as Pillow raises where they are damaged, and again as it looks at one.
    """
    header = data[:16] if b"+" in data[2:4] else data[:8]
    tags = ImageFileDirectory_v2(header)
    stream = BytesIO(data)
    stream.seek(tags.next)
    tags.load(stream)
    return tags


def unreadable_kind(tags: Mapping[int, Any]) -> str | None:
    """What kind of TIFF this is that can't be shown rightly, for "a TIFF of …"; None where nothing is known."""
    photometric = tags.get(_PHOTOMETRIC)
    bits = _several(tags.get(_BITS, 1))
    formats = _several(tags.get(_SAMPLE_FORMAT, 1))
    rare_formats = [_SAMPLE_FORMATS[number] for number in formats if number in _SAMPLE_FORMATS]
    if photometric is None and (_STRIPS in tags or _TILES in tags):
        return "unknown colours (PhotometricInterpretation is missing)"
    if photometric in _RARE_COLORS:
        return _RARE_COLORS[photometric]
    if rare_formats:
        return rare_formats[0]
    compression = tags.get(_COMPRESSION, 1)
    if compression not in COMPRESSION_INFO:
        return f"compression {compression}{_RARE_COMPRESSIONS.get(compression, '')}"
    if bits == (12,) and photometric == 1:
        return None
    if not _DEPTHS.issuperset(bits):
        return f"{max(bits)}-bit samples"
    if photometric == _INKS and tags.get(_INK_SET, 1) != 1:
        return "inks other than cyan, magenta, yellow and black"
    if photometric == _YCBCR and compression == _UNCOMPRESSED:
        return "uncompressed YCbCr"
    return _unreadable_planes(tags, photometric, bits)


def is_preview(tags: ImageFileDirectory_v2) -> bool:
    """Whether the file calls this page a smaller version of another one that is in it, too."""
    is_smaller = tags.get(_SUBFILE_TYPE, 0) & 1 or tags.get(_OLD_SUBFILE_TYPE) == _SMALLER
    return bool(is_smaller) and (_SUB_PAGES in tags or bool(tags.next))


def other_kind(tags: Mapping[int, Any]) -> str:
    """What kind of TIFF this is where Pillow knows none such, for "a TIFF of …"."""
    bits, samples = _several(tags.get(_BITS, 1)), tags.get(_SAMPLES, 1)
    return f"{max(bits)}-bit samples, {samples} a pixel, PhotometricInterpretation {tags.get(_PHOTOMETRIC)},"


def palette_of_8_bits(image: TiffImageFile) -> ImagePalette.ImagePalette | None:
    """A colour map of 8 bits, where TIFF wants 16: some programs write one, and Pillow makes black of it."""
    entries = image.tag_v2.get(_COLOR_MAP)
    if image.mode in ("P", "PA") and entries and 0 < max(entries) < 256:
        return ImagePalette.raw("RGB;L", bytes(entries))
    return None


def has_unnamed_alpha(image: TiffImageFile) -> bool:
    """Whether there is a fourth sample that the file doesn't call alpha, though Pillow does."""
    return image.mode == "RGBA" and _EXTRA_SAMPLES not in image.tag_v2


def has_12_bits(image: TiffImageFile) -> bool:
    """Whether samples go from 0 to 4095: Pillow gives them as 16 bits and as they are."""
    return _several(image.tag_v2.get(_BITS, 1)) == (12,)


def counts_from_white(image: TiffImageFile) -> bool:
    """Whether 0 is white."""
    return image.tag_v2.get(_PHOTOMETRIC) == 0


def _unreadable_planes(tags: Mapping[int, Any], photometric: Any, bits: tuple[int, ...]) -> str | None:
    """Of samples in separate planes, Pillow puts 8-bit RGB, RGBA and CMYK together, and compressed 16-bit RGB."""
    if tags.get(_PLANAR, 1) != _SEPARATE or tags.get(_SAMPLES, 1) == 1:
        return None
    if photometric in _GREY:
        return "grey with alpha in separate planes"
    if photometric not in (_COLORS, _INKS) or 1 in _several(tags.get(_EXTRA_SAMPLES, ())):
        return "samples in separate planes, of colours that are not plain RGB, RGBA or CMYK"
    compressed = tags.get(_COMPRESSION, 1) != _UNCOMPRESSED
    if not compressed and 0 in _several(tags.get(_EXTRA_SAMPLES, ())):
        return "uncompressed samples in separate planes, one of them unnamed"
    if max(bits) > 8 and not (compressed and photometric == _COLORS and tags.get(_SAMPLES) == 3):
        return "16-bit samples in separate planes"
    return None


def _several(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value,)
