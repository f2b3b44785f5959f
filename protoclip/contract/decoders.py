"""What decodes and resizes pictures here: by it a client knows whether its pixels are the server's.

This file needs Pillow, and the files of `PIXEL_FILES` beside it: the Triton preprocessing model carries copies of
them all.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import GifImagePlugin, ImageFile, TiffImagePlugin, features

PIXEL_FILES = (
    "pixels.py",
    "bmp_kinds.py",
    "color_profiles.py",
    "jpeg_xl.py",
    "opening.py",
    "orientation.py",
    "picture_files.py",
    "resizing.py",
    "rgb.py",
    "scaled_pixels.py",
    "tiff_kinds.py",
)
"""All of ours that pixels depend on."""

DECODERS_BYTES = 1024
"""Bytes of a row of `pack_decoders`."""

RULES = "ProtoCLIP's own rules"
"""The entry of `PIXEL_FILES`: a hash of their bytes."""

_LIBRARIES = ("libjpeg_turbo", "jpg", "zlib", "zlib_ng", "libtiff", "webp", "avif", "littlecms2")
_PACKAGES = ("pillow-heif", "pillow-jxl-plugin")


def decoder_versions() -> dict[str, str]:
    """The version of each library that decodes or resizes pictures in this Python, "" where it is missing."""
    found = {"Pillow": PIL.__version__}
    found |= {name: features.version(name) or "" for name in _LIBRARIES}
    found |= {name: _package_version(name) for name in _PACKAGES}
    return found | {RULES: _hash_of_files()}


def pack_decoders(versions: Mapping[str, str]) -> NDArray[np.uint8]:
    """As JSON, padded by zeros: uint8 `[1024]`."""
    data = json.dumps(dict(versions)).encode()
    return np.frombuffer(data.ljust(DECODERS_BYTES, b"\0"), dtype=np.uint8)


def unpack_decoders(row: bytes) -> dict[str, str]:
    """The inverse of `pack_decoders`.

    Raises:
        ValueError: it is none.
    """
    versions = json.loads(row.rstrip(b"\0"))
    if not isinstance(versions, dict):
        raise ValueError("no JSON object")
    return {str(name): str(version) for name, version in versions.items()}


def changed_settings() -> str | None:
    """A setting of Pillow's for all of this process that changes pixels; None: all are as in a server."""
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        return "ImageFile.LOAD_TRUNCATED_IMAGES is set"
    if GifImagePlugin.LOADING_STRATEGY != GifImagePlugin.LoadingStrategy.RGB_AFTER_FIRST:
        return "GifImagePlugin.LOADING_STRATEGY is changed"
    if TiffImagePlugin.READ_LIBTIFF:
        return "TiffImagePlugin.READ_LIBTIFF is set"
    return None


def _package_version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _hash_of_files() -> str:
    """Of the text, so that an installer that changes line ends changes nothing."""
    folder, found = Path(__file__).parent, hashlib.sha256()
    for name in PIXEL_FILES:
        found.update("\n".join((folder / name).read_text(encoding="utf-8").splitlines()).encode() + b"\0")
    return found.hexdigest()[:16]
