"""Pictures as encoded bytes."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

import numpy as np
from PIL import Image

FORMATS = {
    "jpeg": {"format": "JPEG", "quality": 95, "subsampling": 0},
    "progressive": {"format": "JPEG", "quality": 95, "subsampling": 0, "progressive": True},
    "png": {"format": "PNG"},
    "webp": {"format": "WEBP", "lossless": True, "exact": True},
    "gif": {"format": "GIF"},
    "bmp": {"format": "BMP"},
    "tiff": {"format": "TIFF"},
    "tiff-lzw": {"format": "TIFF", "compression": "tiff_lzw"},
}


def saved(image: Image.Image, **options: object) -> bytes:
    stream = BytesIO()
    image.save(stream, **{"format": "PNG", **options})
    return stream.getvalue()


def png(
    size: tuple[int, int], depth: int, color: int, rows: bytes, palette: bytes = b"", alpha: bytes = b""
) -> bytes:
    """A PNG of which every bit is known: `rows` are packed samples, each row led by its filter byte."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    parts = [chunk(b"IHDR", struct.pack(">IIBBBBB", *size, depth, color, 0, 0, 0))]
    parts += [chunk(b"PLTE", palette)] * bool(palette) + [chunk(b"tRNS", alpha)] * bool(alpha)
    parts += [chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def smooth(width: int = 64, height: int = 48) -> Image.Image:
    y, x = np.mgrid[0:height, 0:width]
    planes = [255 * x / width, 255 * y / height, 128 + 0 * x]
    return Image.fromarray(np.stack(planes, axis=-1).astype(np.uint8))
