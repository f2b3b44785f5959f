"""Every kind of picture file: the good ones with what they show, the bad ones with what is said of them.

A good picture stands beside the array that it shows. All arrays here have one size, and no two corners of the
pattern one colour, so that a vector of mean colours by region tells whether anything was turned, cut or mirrored.
"""

from __future__ import annotations

import io
import struct
import zlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from icc_profiles import DISPLAY_P3, matrix_profile
from numpy.typing import NDArray
from picture_bytes import bmp
from PIL import Image

Pixels = NDArray[np.uint8]
SIDE = 32
LOSSLESS, LOSSY = 1e-5, 2e-2


def make_pattern() -> Pixels:
    """Another colour in every corner, so that nothing turned, cut or mirrored looks like it."""
    y, x = np.mgrid[0:SIDE, 0:SIDE] * 255 // (SIDE - 1)
    return np.stack([x, y, 255 - (x + y) // 2], axis=-1).astype(np.uint8)


def uniform(*colour: int) -> Pixels:
    return np.full((SIDE, SIDE, 3), colour, dtype=np.uint8)


def grey(values: NDArray[Any]) -> Pixels:
    return np.repeat(values.astype(np.uint8)[:, :, np.newaxis], 3, axis=2)


def file_of(source: Pixels | Image.Image, file_format: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image = source if isinstance(source, Image.Image) else Image.fromarray(source)
    image.save(stream, file_format, **options)
    return stream.getvalue()


def png_of(width: int, height: int, depth: int, kind: int, rows: bytes, palette: bytes = b"") -> bytes:
    """A PNG of which every bit is known; kind 0 is grey, 2 RGB, 3 palette. Each row leads with a 0."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
    colours = chunk(b"PLTE", palette) if palette else b""
    return b"\x89PNG\r\n\x1a\n" + header + colours + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def packed(values: NDArray[Any], depth: int) -> bytes:
    """Samples `[H, W]` below 2^depth as PNG's rows."""
    bits = (values[:, :, np.newaxis].astype(np.uint8) >> np.arange(depth)[::-1]) & 1
    return b"".join(b"\0" + row.tobytes() for row in np.packbits(bits.reshape(len(values), -1), axis=1))


def rows_of_16_bits(values: NDArray[Any]) -> bytes:
    return b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)


def turned(orientation: int, file_format: str = "PNG", **options: Any) -> tuple[bytes, Pixels]:
    """A file that lies on its side or in a mirror and says so, and what it shows."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = {
        2: PATTERN[:, ::-1],
        3: PATTERN[::-1, ::-1],
        4: PATTERN[::-1],
        5: PATTERN.transpose(1, 0, 2),
        6: np.rot90(PATTERN),
        7: PATTERN[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(PATTERN, 3),
    }
    return file_of(np.ascontiguousarray(stored[orientation]), file_format, exif=exif, **options), PATTERN


def half_transparent() -> tuple[bytes, Pixels]:
    alpha = np.full((SIDE, SIDE, 1), 128, dtype=np.uint8)
    shown = np.round((PATTERN.astype(np.float64) * 128 + 255 * 127) / 255).astype(np.uint8)
    return file_of(Image.fromarray(np.concatenate([PATTERN, alpha], axis=2), "RGBA")), shown


def palette_with_transparency() -> tuple[bytes, Pixels]:
    image = Image.fromarray((np.indices((SIDE, SIDE))[1] // 8 % 3).astype(np.uint8), "P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    colours = np.array([[255, 0, 0], [255, 255, 255], [0, 0, 255]], dtype=np.uint8)
    return file_of(image, transparency=1), colours[np.asarray(image)]


def wide() -> tuple[bytes, Pixels]:
    """6000 × 3: only the middle is seen, which is not as the rest."""
    pixels = np.zeros((3, 6000, 3), dtype=np.uint8)
    pixels[:, 2900:3100] = (0, 200, 40)
    return file_of(pixels), uniform(0, 200, 40)


def optional_kinds() -> dict[str, tuple[bytes, Pixels, float]]:
    """HEIC and JPEG XL, where the packages of their extras are installed."""
    found = {}
    if find_spec("pillow_heif"):
        import pillow_heif

        pillow_heif.register_heif_opener()
        exif = Image.Exif()
        exif[0x0112] = 6
        lying = np.ascontiguousarray(np.rot90(PATTERN))
        found["HEIC"] = (file_of(PATTERN, "HEIF", quality=98, chroma=444), PATTERN, LOSSY)
        found["turned HEIC"] = (
            file_of(lying, "HEIF", quality=98, chroma=444, exif=exif.tobytes()),
            PATTERN,
            LOSSY,
        )
    if find_spec("pillow_jxl"):
        import pillow_jxl  # noqa: F401 - it registers itself

        found["JPEG XL"] = (file_of(PATTERN, "JXL", lossless=True), PATTERN, LOSSLESS)
    return found


def animated(file_format: str) -> tuple[bytes, Pixels]:
    first, second = Image.fromarray(uniform(0, 0, 255)), Image.fromarray(uniform(255, 0, 0))
    options: dict[str, Any] = {"lossless": True} if file_format == "WEBP" else {}
    return file_of(first, file_format, save_all=True, append_images=[second], duration=50, **options), uniform(
        0, 0, 255
    )


PATTERN = make_pattern()
STEPS = np.indices((SIDE, SIDE)).sum(axis=0) // 4
DEEP = STEPS.astype(np.uint32) * 4000 + 77
COLOURS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 99, 199]], dtype=np.uint8)
BLOCKS = Image.fromarray(np.where(STEPS[:, :, np.newaxis] < 8, (200, 30, 60), (10, 120, 240)).astype(np.uint8))

GOOD: dict[str, tuple[bytes, Pixels, float]] = {
    "rgb": (file_of(PATTERN), PATTERN, LOSSLESS),
    "1 x 1": (file_of(np.array([[[200, 100, 50]]], dtype=np.uint8)), uniform(200, 100, 50), LOSSLESS),
    "6000 x 3": (*wide(), LOSSLESS),
    "1 bit": (png_of(SIDE, SIDE, 1, 0, packed(STEPS % 2, 1)), grey(STEPS % 2 * 255), LOSSLESS),
    "2 bits": (png_of(SIDE, SIDE, 2, 0, packed(STEPS % 4, 2)), grey(STEPS % 4 * 85), LOSSLESS),
    "4 bits": (png_of(SIDE, SIDE, 4, 0, packed(STEPS, 4)), grey(STEPS * 17), LOSSLESS),
    "8 bits": (file_of(grey(STEPS * 16)[:, :, 0]), grey(STEPS * 16), LOSSLESS),
    "16 bits": (png_of(SIDE, SIDE, 16, 0, rows_of_16_bits(DEEP)), grey(np.round(DEEP / 257)), LOSSLESS),
    "16 bits, colour": (
        png_of(SIDE, SIDE, 16, 2, rows_of_16_bits(PATTERN.astype(np.uint32).reshape(SIDE, -1) * 257)),
        PATTERN,
        LOSSLESS,
    ),
    "palette of 2 bits": (
        png_of(SIDE, SIDE, 2, 3, packed(STEPS % 4, 2), COLOURS.tobytes()),
        COLOURS[STEPS % 4],
        LOSSLESS,
    ),
    "palette with transparency": (*palette_with_transparency(), LOSSLESS),
    "half transparent": (*half_transparent(), 1e-3),
    "all transparent": (file_of(Image.new("RGBA", (SIDE, SIDE), (1, 2, 3, 0))), uniform(255, 255, 255), LOSSLESS),
    "grey with alpha": (file_of(Image.new("LA", (SIDE, SIDE), (7, 0))), uniform(255, 255, 255), LOSSLESS),
    "CMYK": (file_of(BLOCKS.convert("CMYK"), "JPEG", quality=100), np.asarray(BLOCKS), LOSSY),
    "JPEG": (file_of(PATTERN, "JPEG", quality=98, subsampling=0), PATTERN, LOSSY),
    # Properly ended and checked by its own sum, only too short: as with JPEG, what is there counts.
    "fewer rows than promised": (
        png_of(SIDE, SIDE, 8, 0, 8 * (b"\0" + SIDE * b"\xff")),
        grey(np.repeat([255, 0], [8, 24])[:, np.newaxis].repeat(SIDE, axis=1)),
        LOSSLESS,
    ),
    "progressive": (file_of(PATTERN, "JPEG", quality=98, subsampling=0, progressive=True), PATTERN, LOSSY),
    **{f"EXIF orientation {number}": (*turned(number), LOSSLESS) for number in range(2, 9)},
    "EXIF-rotated JPEG": (*turned(6, "JPEG", quality=98, subsampling=0), LOSSY),
    "WebP": (file_of(PATTERN, "WEBP", lossless=True), PATTERN, LOSSLESS),
    "AVIF": (file_of(PATTERN, "AVIF", quality=98, subsampling="4:4:4"), PATTERN, LOSSY),
    "moving AVIF": (*animated("AVIF"), LOSSY),
    "turned AVIF": (*turned(6, "AVIF", quality=98, subsampling="4:4:4"), LOSSY),
    **optional_kinds(),
    # The specification of the tests' models says: as stored.
    "colour profile": (file_of(PATTERN, icc_profile=matrix_profile(DISPLAY_P3)), PATTERN, LOSSLESS),
    "BMP": (file_of(PATTERN, "BMP"), PATTERN, LOSSLESS),
    "TIFF": (file_of(PATTERN, "TIFF"), PATTERN, LOSSLESS),
    "moving GIF": (*animated("GIF"), LOSSLESS),
    "moving WebP": (*animated("WEBP"), LOSSLESS),
    "moving PNG": (*animated("PNG"), LOSSLESS),
}
LARGE = np.random.default_rng(0).integers(0, 256, (90, 90, 3), dtype=np.uint8)
BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "the picture is empty"),
    "noise": (bytes(range(256)), "no picture in a known format"),
    "only a signature": (b"\xff\xd8\xff", "header is damaged"),
    "JPEG cut short": (file_of(LARGE, "JPEG")[:3000], "damaged or cut short"),
    "progressive JPEG cut short": (file_of(LARGE, "JPEG", progressive=True)[:3000], "damaged or cut short"),
    "BMP cut short": (file_of(LARGE, "BMP")[:9000], "damaged or cut short"),
    "TIFF cut short": (file_of(LARGE, "TIFF")[:9000], "damaged or cut short"),
    "PNG cut short": (file_of(LARGE)[:9000], "damaged or cut short"),
    "WebP cut short": (file_of(LARGE, "WEBP")[:1500], "damaged|cut short"),
    "GIF cut short": (file_of(LARGE, "GIF")[:900], "damaged or cut short"),
    "promises 2,500 megapixels": (png_of(50_000, 50_000, 8, 2, b"\0"), "50000 x 50000 pixels, the limit is"),
    "has 200 megapixels": (
        png_of(20_000, 10_000, 1, 0, bytes(2501 * 10_000)),
        "20000 x 10000 pixels, the limit is",
    ),
    "more than 32 MiB": (b"\xff\xd8\xff" + bytes(32 * 2**20), "33554435 bytes.* 33554432"),
    "no pixels": (png_of(0, 0, 8, 0, b""), "damaged"),
    "SVG": (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing: render it"),
    "ZIP": (b"PK\x03\x04" + bytes(60), "a ZIP archive"),
    "HTML": (b"<!DOCTYPE html><title>Not found</title>", "an HTML page"),
    "PDF": (b"%PDF-1.7\n", "a PDF: render its pages"),
    "JSON": (b'{"error": "expired"}', "text .XML or JSON."),
    "HEIC without content": (b"\0\0\0\x18ftypheic" + bytes(20), "header is damaged|HEIC, which is read where"),
    "AVIF cut short": (file_of(LARGE, "AVIF")[:900], "damaged|cut short"),
    "JPEG XL without content": (b"\xff\x0a", "header is damaged|JPEG XL, which is read where"),
    "video": (b"\0\0\0\x18ftypisom" + bytes(20), "a video: take a frame"),
    "JPEG 2000": (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000: convert it"),
    "floating-point TIFF": (file_of(Image.new("F", (8, 8)), "TIFF"), "a TIFF of floating-point samples"),
    "Lab TIFF": (file_of(Image.new("LAB", (8, 8)), "TIFF"), "a TIFF of Lab colours"),
    "BMP with bit masks of 4 bits": (
        bmp(16, bytes(8), (0xF00, 0xF0, 0xF, 0), (2, 1)),
        "a BMP with these bit masks",
    ),
    "TIFF without end": (b"II*\0\x08\0\0\0" + 20 * b"\xff", "damaged"),
}
SUFFIXES = (".jpg", ".png", ".webp", ".gif")


def write_all(folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Every good and every bad picture as a file with a picture's name, in the folder `folder`.

    Returns:
        The kinds of the good files and of the bad ones, by the file's name.
    """
    folder.mkdir(parents=True)
    good, bad = {}, {}
    for found, names in ((GOOD, good), (BAD, bad)):
        for number, kind in enumerate(found):
            name = f"{'good' if found is GOOD else 'bad'}{number:02}{SUFFIXES[number % len(SUFFIXES)]}"
            (folder / name).write_bytes(found[kind][0])
            names[name] = kind
    return good, bad
