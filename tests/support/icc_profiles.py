"""ICC profiles of which every number is known, and what their colours are in sRGB, computed here."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
D50 = (0.9642, 1.0, 0.8249)
# Columns: XYZ of red, green and blue, adapted to D50, as their makers publish them.
SRGB = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
DISPLAY_P3 = np.array([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]])


def profile(
    space: bytes, tags: dict[bytes, bytes], device: bytes = b"mntr", pcs: bytes = b"XYZ ", version: int = 4
) -> bytes:
    """A profile of an ICC version with these tags."""
    tags = {b"wtpt": xyz(D50), b"desc": b"mluc" + bytes(4) + struct.pack(">II", 0, 12), **tags}
    start, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, value in tags.items():
        table += name + struct.pack(">II", start + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    head = bytes(4) + bytes([version, 0x20, 0, 0]) + device + space + pcs + bytes(12) + b"acsp" + bytes(28)
    head += struct.pack(">3i", *(round(65536 * value) for value in D50)) + bytes(48)
    return struct.pack(">I", start + len(body)) + head + struct.pack(">I", len(tags)) + table + body


def xyz(values: Sequence[float]) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(65536 * value) for value in values))


def srgb_curve() -> bytes:
    numbers = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    return b"para" + bytes(4) + struct.pack(">HH5i", 3, 0, *(round(65536 * number) for number in numbers))


def gamma_curve(gamma: float) -> bytes:
    return b"para" + bytes(4) + struct.pack(">HHi", 0, 0, round(65536 * gamma))


def matrix_profile(primaries: Values, curve: bytes | None = None) -> bytes:
    """Of a screen with these primaries; the curve is sRGB's unless another is given."""
    columns = {name + b"XYZ": xyz(primaries[:, row]) for row, name in enumerate((b"r", b"g", b"b"))}
    return profile(b"RGB ", columns | {name + b"TRC": curve or srgb_curve() for name in (b"r", b"g", b"b")})


def grey_profile(gamma: float) -> bytes:
    return profile(b"GRAY", {b"kTRC": gamma_curve(gamma)})


def table_profile(space: bytes, light: Callable[[Values], Values]) -> bytes:
    """A profile with a table of two steps along each channel, as XYB JPEGs and printers' profiles have tables.

    Args:
        light: from channels `[N, C]` in 0 … 1 to linear sRGB light `[N, 3]`, at the table's corners.
    """
    count = 4 if space == b"CMYK" else 3
    corners = np.array(np.meshgrid(*[[0.0, 1.0]] * count, indexing="ij")).reshape(count, -1).T
    places = np.round(light(corners) @ SRGB.T * 32768).astype(">u2").tobytes()
    identity = struct.pack(">9i", *(65536 * value for value in (1, 0, 0, 0, 1, 0, 0, 0, 1)))
    straight = struct.pack(">2H", 0, 65535)
    lut = b"mft2" + bytes(4) + bytes([count, 3, 2, 0]) + identity + struct.pack(">HH", 2, 2)
    device = b"prtr" if space == b"CMYK" else b"mntr"
    # Version 4 would put this table's black at the black of its reference paper.
    return profile(space, {b"A2B0": lut + straight * count + places + straight * 3}, device, version=2)


def linear(values: NDArray[np.uint8]) -> Values:
    """Light of sRGB's numbers, 0 … 1."""
    part = values / 255
    return np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)


def encoded(light: Values) -> Values:
    """sRGB's numbers of light, 0 … 255, clipped and not rounded."""
    light = np.clip(light, 0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def p3_in_srgb(colors: NDArray[np.uint8]) -> Values:
    """What Display P3's numbers `[…, 3]` are in sRGB."""
    return encoded(linear(colors) @ DISPLAY_P3.T @ np.linalg.inv(SRGB).T)
