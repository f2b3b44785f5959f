"""A small copy of a picture that was given, to be shown beside what it was given for."""

from __future__ import annotations

import io

from PIL import Image

from protoclip.contract.pixels import PictureError, PixelSpec, decode_reduced
from serving.gateway.errors import invalid

_EDGE = 160
_FACTORS = (8, 4, 2)
_SHOWN = PixelSpec(height=1, width=1, color_management="srgb")
_STORED = PixelSpec(height=1, width=1)


def small_picture(data: bytes) -> bytes:
    """WebP in sRGB, on white, longest side at most 160 pixels.

    Raises:
        Refused: 400, it can't be read.
    """

    def factor(width: int, height: int) -> int:
        return next((one for one in _FACTORS if max(width, height) >= 2 * _EDGE * one), 1)

    try:
        try:
            image = decode_reduced(data, _SHOWN, factor).image
        except PictureError:  # its profile may be all that is broken
            image = decode_reduced(data, _STORED, factor).image
    except PictureError as error:
        raise invalid(f"the picture can't be read: {error}") from error
    image.thumbnail((_EDGE, _EDGE), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, "WEBP", quality=85)
    return stream.getvalue()
