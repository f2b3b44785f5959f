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


# XYB, the colours of JPEG XL: how the eye's cones mix linear light, and their response to none.
CONES = np.array([[0.3, 0.622, 0.078], [0.23, 0.692, 0.078], [0.243422689, 0.204767444, 0.551809867]])
DARK = 0.00379307325527
# From x, y and b − y to the three channels, 0 … 1: their offsets and scales.
XYB_OFFSETS, XYB_SCALES = np.array([0.0154, 0.0, 0.2773]), np.array([22.9957, 1.1837, 1.4963])
_TO_CONES = np.array([[1.0, 1.0, 0.0], [-1.0, 1.0, 0.0], [0.0, 1.0, 1.0]])


def xyb(colors: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The channels of sRGB's numbers `[…, 3]` as `xyb_profile` reads them."""
    cones = np.cbrt(linear(colors) @ CONES.T + DARK) - np.cbrt(DARK)
    channels = (cones @ np.linalg.inv(_TO_CONES).T + XYB_OFFSETS) * XYB_SCALES
    return np.round(np.clip(channels, 0, 1) * 255).astype(np.uint8)


def xyb_profile() -> bytes:
    """As those in XYB JPEGs: a table of two steps a channel, cubes, and a matrix (lutAToBType)."""
    corners = np.array(np.meshgrid(*[[0.0, 1.0]] * 3, indexing="ij")).reshape(3, -1).T
    cones = (corners / XYB_SCALES - XYB_OFFSETS) @ _TO_CONES.T
    lowest, highest = cones.min(axis=0), cones.max(axis=0)
    table = np.round((cones - lowest) / (highest - lowest) * 65535).astype(">u2").tobytes()
    cubes = b"".join(
        _curve(
            4, 3.0, high - low, low + np.cbrt(DARK), 0.0, max(0.0, -(low + np.cbrt(DARK)) / (high - low)), -DARK, 0
        )
        for low, high in zip(lowest, highest, strict=True)
    )
    matrix = SRGB @ np.linalg.inv(CONES) * 32768 / 65535
    numbers = struct.pack(">12i", *(round(65536 * value) for value in (*matrix.ravel(), 0, 0, 0)))
    clut = bytes([2, 2, 2]) + bytes(13) + bytes([2]) + bytes(3) + table
    straight = _curve(0, 1.0) * 3
    parts, place, places = (straight, numbers, cubes, clut, straight), 32, []
    for part in parts:
        places.append(place)
        place += len(part)
    lut = b"mAB " + bytes(4) + bytes([3, 3, 0, 0]) + struct.pack(">5I", *places) + b"".join(parts)
    return profile(b"RGB ", {b"A2B0": lut})


def _curve(kind: int, *numbers: float) -> bytes:
    """A parametric one: (a·x + b)^g + e from d on, c·x + f below, in the order g, a, b, c, d, e, f."""
    return b"para" + bytes(4) + struct.pack(f">HH{len(numbers)}i", kind, 0, *(round(65536 * n) for n in numbers))
