"""Pictures that lie on their side or in a mirror and say so in their EXIF data: turned upright.

This file needs Pillow, and the files that it imports beside it: the Triton preprocessing model carries copies of
them, beside `pixels.py`.
"""

from __future__ import annotations

from PIL import Image

from .opening import BROKEN

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Turned upright by these, the last column, or the last row, of the stored pixels comes first.
FROM_RIGHT, FROM_BOTTOM = (2, 3, 6, 7), (3, 4, 7, 8)
_FIRST_ON_ITS_SIDE = 5
_ORIENTATION = 0x0112


def exif_orientation(image: Image.Image) -> int:
    """EXIF's number of how the picture lies; 1, upright, where it says nothing, and where its data is broken."""
    # The decoder of JPEG XL turns as its own header says, and EXIF data has no say; but a JPEG inside a JPEG XL is
    # given out as it lay there. HEIC is turned by its decoder too, which mends the EXIF data itself.
    if image.format == "JXL" and not getattr(image, "jpeg", False):
        return 1
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except BROKEN:
        return 1
    return value if isinstance(value, int) else 1


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """Turned, by a number of EXIF's; `image` itself where there is nothing to turn."""
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def upright_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Width and height of a picture of `size` once it is turned."""
    return size[::-1] if orientation >= _FIRST_ON_ITS_SIDE and orientation in _TURNS else size
