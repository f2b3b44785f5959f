"""Drawings to pictures: 64 × 64 pixels, RGB, composited on white, as WebP files."""

from __future__ import annotations

import io

import resvg_py
from PIL import Image, ImageOps

from .drawings import Drawing

SIZE = 64
LOSSY_QUALITY = 95


def render(drawing: Drawing) -> bytes:
    """A WebP file of `drawing`, centred and as large as its longer side allows.

    Rendered SVGs are few flat colours and are stored without loss, which takes fewer bytes than
    a lossy file of good quality would. Shaded bitmaps are stored at quality 95.
    """
    picture = _render_svg(drawing.data) if drawing.kind == "svg" else _fit_bitmap(drawing.data)
    stream = io.BytesIO()
    if drawing.kind == "svg":
        picture.save(stream, "WEBP", lossless=True, quality=75, method=4)
    else:
        picture.save(stream, "WEBP", quality=LOSSY_QUALITY, method=6)
    return stream.getvalue()


def _render_svg(svg: bytes) -> Image.Image:
    # No drawing holds letters; fonts of the machine would cost time and make the result depend on it.
    png = resvg_py.svg_to_bytes(
        svg_string=svg.decode("utf-8"), width=SIZE, height=SIZE, background="#ffffff", skip_system_fonts=True
    )
    return _squared(Image.open(io.BytesIO(png)).convert("RGB"))


def _fit_bitmap(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data)).convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image)
    return _squared(white.convert("RGB"))


def _squared(image: Image.Image) -> Image.Image:
    return ImageOps.pad(image, (SIZE, SIZE), Image.Resampling.LANCZOS, color="white")
