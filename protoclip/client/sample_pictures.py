"""Pictures that a server and a client both decode, to see whether they make the same pixels."""

from __future__ import annotations

import io
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageCms, features

CUT_SHORT = "JPEG cut short"
"""The sample that nobody may decode."""


@lru_cache(maxsize=1)
def sample_pictures() -> Mapping[str, bytes]:
    """Files by what is special about them; odd sizes, so that decoders have to fill blocks of samples up."""
    rgb, lossless = _drawing(331, 253), _drawing(131, 97)
    alpha = Image.merge("RGBA", (*lossless.split(), lossless.getchannel("R")))
    grey16 = Image.fromarray(np.asarray(lossless.convert("L")).astype(np.uint16) * 257 + 3)
    turned = Image.Exif()
    turned[0x0112] = 6
    found = {
        "JPEG 4:4:4": _saved(rgb, "JPEG", subsampling=0, quality=83),
        "JPEG 4:2:2": _saved(rgb, "JPEG", subsampling=1, quality=71),
        "JPEG 4:2:0": _saved(rgb, "JPEG", subsampling=2, quality=55),
        "large JPEG": _saved(_drawing(1003, 751), "JPEG", subsampling=2, quality=80),
        "small JPEG": _saved(_drawing(37, 29), "JPEG", subsampling=2, quality=80),
        "progressive JPEG": _saved(rgb, "JPEG", progressive=True, quality=64),
        "turned JPEG": _saved(rgb, "JPEG", exif=turned),
        "grey JPEG": _saved(rgb.convert("L"), "JPEG"),
        "CMYK JPEG": _saved(rgb.convert("CMYK"), "JPEG", quality=60),
        CUT_SHORT: _saved(rgb, "JPEG")[:-4000],
        "PNG": _saved(lossless, "PNG"),
        "PNG with alpha": _saved(alpha, "PNG"),
        "PNG with a palette": _saved(lossless.quantize(37), "PNG", transparency=5),
        "PNG of 16 bits": _saved(grey16, "PNG"),
        "GIF": _saved(lossless.quantize(64), "GIF", transparency=3),
        "BMP": _saved(lossless, "BMP"),
        "TIFF": _saved(lossless, "TIFF"),
    }
    if features.check("libtiff"):
        found["TIFF with JPEG"] = _saved(rgb, "TIFF", compression="jpeg")
    if features.check("webp"):
        found["WebP"] = _saved(rgb, "WEBP", quality=60)
        found["WebP with alpha"] = _saved(alpha, "WEBP", lossless=True)
    if features.check("avif"):
        found["AVIF"] = _saved(rgb, "AVIF", quality=60, speed=10)
    if features.check("littlecms2"):
        found["JPEG with a profile"] = _saved(rgb, "JPEG", icc_profile=_other_colors())
    return found


def _drawing(width: int, height: int) -> Image.Image:
    """Waves, and hard edges between strong colours."""
    y, x = np.mgrid[:height, :width]
    waves = 127 + 100 * np.stack([np.sin(x / 7 + y / 11), np.sin(x * y / 900), np.cos(y / 5 - x / 13)], axis=-1)
    edges = np.where(((x // 5 + y // 3) % 4 == 0)[..., None], [250, 10, 60], waves)
    return Image.fromarray(edges.astype(np.uint8))


def _other_colors() -> bytes:
    """A profile that takes red for green: what sRGB's is with two names exchanged."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile.replace(b"rXYZ", b"swap").replace(b"gXYZ", b"rXYZ").replace(b"swap", b"gXYZ")


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()
