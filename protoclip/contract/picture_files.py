"""What kind of file some bytes are: a picture that is read here, or something else and what to do about it.

This file needs Pillow only (11.3 or newer): the Triton preprocessing model carries a copy of it, beside
`pixels.py`. HEIC and JPEG XL are read where their packages are installed, which are loaded with the first such
picture.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from io import BytesIO
from typing import Literal, TypeAlias

from PIL import features
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

Kind: TypeAlias = Literal["JPEG", "PNG", "WebP", "GIF", "BMP", "TIFF", "AVIF", "HEIC", "JPEG XL"]
Reader: TypeAlias = Callable[[BytesIO, str], ImageFile]

# So many first bytes tell the kind of every picture but one with dozens of brands in its first box.
HEAD_BYTES = 96
_SIGNATURES: tuple[tuple[bytes, Kind], ...] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"RIFF", "WebP"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
)
_BRANDS: tuple[tuple[frozenset[bytes], Kind], ...] = (
    (frozenset({b"avif", b"avis"}), "AVIF"),
    (frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}), "HEIC"),
)
# The readers are called directly and not through Image.open: that would try rarely used plugins on the
# bytes, and would apply Pillow's own limit on large pictures instead of the spec's.
_READERS: dict[Kind, Reader] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "WebP": WebPImageFile,
    "GIF": GifImageFile,
    "BMP": BmpImageFile,
    "TIFF": TiffImageFile,
    "AVIF": AvifImageFile,
}
_PLUGINS: dict[Kind, tuple[str, str, str, str, str]] = {  # extra, package, its module, the reader's, the reader
    "HEIC": ("heic", "pillow-heif", "pillow_heif", "pillow_heif.as_plugin", "HeifImageFile"),
    "JPEG XL": ("jxl", "pillow-jxl-plugin", "pillow_jxl", "pillow_jxl.JpegXLImagePlugin", "JXLImageFile"),
}
_INSTEAD = "or convert it to JPEG, PNG or WebP"
_STRANGERS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"PK\x03\x04", "no picture but a ZIP archive or an office document: unpack it"),
    (0, b"%PDF", "no picture but a PDF: render its pages first"),
    (0, b"\x1f\x8b", "no picture but gzip-compressed: decompress it"),
    (0, b"8BPS", "no picture but a Photoshop file: save it as PNG"),
    (0, b"version https://git-lfs", "no picture but a Git LFS pointer: fetch the file with `git lfs pull`"),
    (4, b"ftypmif1", "a HEIF picture of a rare kind: convert it to JPEG, PNG or WebP"),
    (4, b"ftypmsf1", "a HEIF picture of a rare kind: convert it to JPEG, PNG or WebP"),
    (4, b"ftypcrx ", "a camera's raw file (CR3): develop it to JPEG or TIFF"),
    (4, b"ftyp", "a video: take a frame of it as JPEG, PNG or WebP"),
    (4, b"jP  ", "JPEG 2000: convert it to JPEG, PNG or WebP"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000: convert it to JPEG, PNG or WebP"),
    (0, b"\0\0\x01\0", "an icon (ICO): save it as PNG"),
)


def find_kind(data: bytes) -> Kind | None:
    """The picture's kind by its first bytes, `HEAD_BYTES` or more; None for what is never read here."""
    for signature, kind in _SIGNATURES:
        if data.startswith(signature) and (signature != b"RIFF" or data[8:12] == b"WEBP"):
            return kind
    brands = _brands(data)
    return next((kind for known, kind in _BRANDS if not known.isdisjoint(brands)), None)


def find_reader(data: bytes) -> Reader | None:
    """Pillow's reader, or that of a package for Pillow, for a file that begins like `data`.

    None where there is none here; `describe_unsupported` says why.
    """
    kind = find_kind(data)
    if kind is None or missing_support(kind) is not None:
        return None
    if kind in _PLUGINS:
        module, name = _PLUGINS[kind][3:]
        try:
            found: Reader = getattr(import_module(module), name)
        except (ImportError, AttributeError):
            return None
        return found
    return _READERS[kind]


def missing_support(kind: Kind) -> str | None:
    """Why a kind of picture can't be read here, and the way out; None if it can. Continues "this is"."""
    if kind == "AVIF" and not features.check("avif"):
        return (
            f"AVIF, which this Pillow was built without: install Pillow's own wheel of 11.3 or newer, {_INSTEAD}"
        )
    if kind in _PLUGINS:
        extra, package, module = _PLUGINS[kind][:3]
        if find_spec(module) is None:
            return (
                f"{kind}, which is read where the extra `{extra}` is installed (`pip install {package}` where "
                f"pictures are decoded): install it, {_INSTEAD}"
            )
    return None


def describe_unsupported(data: bytes) -> str:
    """What kind of file this is and what to do about it, where `find_reader` finds none; continues "this is"."""
    kind = find_kind(data)
    if kind is not None:
        return (
            missing_support(kind) or f"{kind}, and its package {_PLUGINS[kind][1]} can't be loaded: reinstall it"
        )
    for offset, signature, description in _STRANGERS:
        if data.startswith(signature, offset):
            return description
    head = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in head:
        return "an SVG drawing: render it to PNG first"
    if head.startswith((b"<!doctype html", b"<html", b"<head", b"<body", b"<!--")):
        return "an HTML page, not a picture: the download probably got an error or login page"
    if head.startswith((b"<", b"{", b"[")):
        return "text (XML or JSON), not a picture: the download probably got an error message"
    return "no picture in a known format: use JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF"


def _brands(data: bytes) -> set[bytes]:
    """The brands of an ISO media file: its main one and those that it is compatible with."""
    if data[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(data[:4], "big"), len(data))
    return {data[8:12]} | {data[start : start + 4] for start in range(16, end - 3, 4)}
