"""Pictures inside an HTML page."""

from __future__ import annotations

import base64
import io
from functools import lru_cache

from PIL import Image

from protoclip.contract.pixels import PictureError, PixelSpec, decode_rgb

_SHOWN = PixelSpec(height=1, width=1, color_management="srgb")
_STORED = PixelSpec(height=1, width=1)


@lru_cache(maxsize=4096)
def data_uri(picture: bytes, edge: int = 96) -> str:
    """A picture file as a `data:` address: WebP in sRGB, its longest side at most `edge` pixels, on white.

    Raises:
        PictureError: it can't be read.
    """
    try:
        image = decode_rgb(picture, _SHOWN)
    except PictureError:  # its profile may be all that is broken
        image = decode_rgb(picture, _STORED)
    image.thumbnail((edge, edge), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, "WEBP", quality=85)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
