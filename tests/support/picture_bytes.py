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


def tiff(
    samples: np.ndarray | bytes,
    size: tuple[int, int],
    bits: int,
    photometric: int | None,
    channels: int = 1,
    *,
    planar: bool = False,
    deflate: bool = False,
    big_endian: bool = False,
    **more: tuple[int, ...],
) -> bytes:
    """A TIFF of one strip, or of one a plane, of which every tag is known.

    Args:
        samples: `[H, W, C]` in the file's byte order, or packed rows.
        photometric: None leaves the tag out.
        more: further tags, all of 16 bits, such as `t338=(2,)`.
    """
    order = ">" if big_endian else "<"
    if isinstance(samples, bytes):
        strips = [samples]
    else:
        strips = [samples[..., row].tobytes() for row in range(channels)] if planar else [samples.tobytes()]
    strips = [zlib.compress(strip) for strip in strips] if deflate else strips
    tags: dict[int, tuple[str, tuple[int, ...]]] = {
        256: ("H", size[:1]),
        257: ("H", size[1:]),
        258: ("H", (bits,) * channels),
        259: ("H", (8 if deflate else 1,)),
        273: ("I", tuple(8 + sum(map(len, strips[:row])) for row in range(len(strips)))),
        277: ("H", (channels,)),
        278: ("H", size[1:]),
        279: ("I", tuple(map(len, strips))),
        284: ("H", (2 if planar else 1,)),
        **({} if photometric is None else {262: ("H", (photometric,))}),
        **{int(name[1:]): ("H", values) for name, values in more.items()},
    }
    start = 8 + sum(map(len, strips))
    entries, beyond = b"", b""
    for tag, (letter, values) in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(values)}{letter}", *values)
        if len(packed) > 4:
            place = start + 2 + 12 * len(tags) + 4 + len(beyond)
            packed, beyond = struct.pack(order + "I", place), beyond + packed
        entries += struct.pack(order + "HHI", tag, 3 if letter == "H" else 4, len(values)) + packed.ljust(4, b"\0")
    head = (b"MM" if big_endian else b"II") + struct.pack(order + "HI", 42, start)
    return head + b"".join(strips) + struct.pack(order + "H", len(tags)) + entries + bytes(4) + beyond


def bmp(bits: int, rows: bytes, masks: tuple[int, int, int, int], size: tuple[int, int]) -> bytes:
    """A BMP with a V4 header, whose masks say which bits are red, green, blue and alpha."""
    fields = struct.pack("<IiiHHIIiiII", 108, *size, 1, bits, 3, len(rows), 0, 0, 0, 0)
    header = fields + struct.pack("<4I", *masks) + bytes(52)
    return struct.pack("<2sIHHI", b"BM", 14 + len(header) + len(rows), 0, 0, 14 + len(header)) + header + rows
