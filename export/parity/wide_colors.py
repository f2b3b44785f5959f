"""A picture file with a colour profile wider than sRGB, so that the verdict sees how a model takes profiles."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence

import numpy as np
from PIL import Image

# XYZ of red, green and blue, adapted to D50: those of screens for Display P3.
_PRIMARIES = {
    b"rXYZ": (0.51512, 0.24120, -0.00105),
    b"gXYZ": (0.29198, 0.69225, 0.04189),
    b"bXYZ": (0.15710, 0.06657, 0.78407),
}
_D50 = (0.9642, 1.0, 0.8249)
_GAMMA = 2.2


def wide_picture() -> bytes:
    """48 x 48 saturated colours as PNG: in sRGB they differ from the stored ones by up to 60 of 255."""
    across, down = np.meshgrid(np.linspace(0, 255, 48), np.linspace(0, 255, 48))
    colors = np.stack([across, down, 255 - across], axis=2).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(colors).save(stream, "PNG", icc_profile=_profile())
    return stream.getvalue()


def _profile() -> bytes:
    """An ICC profile of version 4: three primaries, a white, and one curve for all channels."""
    curve = b"para" + bytes(4) + struct.pack(">HHi", 0, 0, round(65536 * _GAMMA))
    name = b"mluc" + bytes(4) + struct.pack(">II", 0, 12)
    tags = {b"desc": name, b"wtpt": _xyz(_D50), **{tag: _xyz(values) for tag, values in _PRIMARIES.items()}}
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    table, body, start = b"", b"", 128 + 4 + 12 * len(tags)
    for tag, value in tags.items():
        table += tag + struct.pack(">II", start + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    white = _xyz(_D50)[8:]
    head = bytes(4) + b"\x04\x20\0\0mntrRGB XYZ " + bytes(12) + b"acsp" + bytes(28) + white + bytes(48)
    return struct.pack(">I", start + len(body)) + head + struct.pack(">I", len(tags)) + table + body


def _xyz(values: Sequence[float]) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(65536 * value) for value in values))
