"""What kind of file some bytes are: a picture that Pillow reads here, or something else and what to do about it.

This file needs Pillow only: the Triton preprocessing model carries a copy of it, beside `pixels.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

# The readers are called directly and not through Image.open: that would try rarely used plugins on the
# bytes, and would apply Pillow's own limit on large pictures instead of the spec's.
_READERS: tuple[tuple[bytes, Callable[[BytesIO, str], ImageFile]], ...] = (
    (b"\xff\xd8\xff", JpegImageFile),
    (b"\x89PNG\r\n\x1a\n", PngImageFile),
    (b"RIFF", WebPImageFile),
    (b"GIF87a", GifImageFile),
    (b"GIF89a", GifImageFile),
    (b"BM", BmpImageFile),
    (b"II*\0", TiffImageFile),
    (b"MM\0*", TiffImageFile),
    (b"II+\0", TiffImageFile),
    (b"MM\0+", TiffImageFile),
)
_STRANGERS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"PK\x03\x04", "a ZIP archive or an office document: unpack it"),
    (0, b"%PDF", "a PDF: render its pages first"),
    (0, b"\x1f\x8b", "gzip-compressed: decompress it"),
    (0, b"8BPS", "a Photoshop file: save it as PNG"),
    (0, b"version https://git-lfs", "a Git LFS pointer: fetch the file with `git lfs pull`"),
    (4, b"ftyp", "HEIC, AVIF or a video: convert it to JPEG, PNG or WebP"),
    (4, b"jP  ", "JPEG 2000: convert it to JPEG, PNG or WebP"),
    (4, b"JXL ", "JPEG XL: convert it to JPEG, PNG or WebP"),
)


def find_reader(data: bytes) -> Callable[[BytesIO, str], ImageFile] | None:
    """Pillow's reader for a file that begins like `data`; None if it is no JPEG, PNG, WebP, GIF, BMP or TIFF."""
    for signature, reader in _READERS:
        if data.startswith(signature) and (signature != b"RIFF" or data[8:12] == b"WEBP"):
            return reader
    return None


def describe_unsupported(data: bytes) -> str:
    """What kind of file this is and what to do about it, where `find_reader` finds none; continues "this is"."""
    for offset, signature, description in _STRANGERS:
        if data.startswith(signature, offset):
            return f"no picture but {description}" if offset == 0 else description
    head = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in head:
        return "an SVG drawing: render it to PNG first"
    if head.startswith((b"<!doctype html", b"<html", b"<head", b"<body", b"<!--")):
        return "an HTML page, not a picture: the download probably got an error or login page"
    if head.startswith((b"<", b"{", b"[")):
        return "text (XML or JSON), not a picture: the download probably got an error message"
    return "no picture in a known format: use JPEG, PNG, WebP, GIF, BMP or TIFF"
