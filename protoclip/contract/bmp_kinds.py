"""What Pillow reads BMPs without: the alpha mask of 16-bit pixels, and an embedded colour profile.

This file needs NumPy only: the Triton preprocessing model carries a copy of it, beside `pixels.py`.
"""

from __future__ import annotations

import struct

import numpy as np

_BIT_FIELDS = (3, 6)
_WITH_ALPHA_MASK = 56  # the smallest header that has one
_WITH_PROFILE = 124
_EMBEDDED = b"DEBM"
_FILE_HEADER = 14


def has_16_bit_alpha(data: bytes) -> bool:
    """Whether the picture is partly transparent by a mask of its 16-bit pixels: all 1 or all 0 is no transparency.

    Raises:
        struct.error, ValueError: the header is cut short, or the pixels are.
    """
    start, header = struct.unpack_from("<II", data, 10)
    if header < _WITH_ALPHA_MASK:
        return False
    bits, compression = struct.unpack_from("<HI", data, 28)
    if bits != 16 or compression not in _BIT_FIELDS:
        return False
    width, height = struct.unpack_from("<ii", data, 18)
    (mask,) = struct.unpack_from("<I", data, 66)
    row = (width + 1) // 2 * 2  # rows end at 4 bytes
    values = np.frombuffer(data, "<u2", row * abs(height), start).reshape(abs(height), row)[:, :width] & mask
    return mask != 0 and bool(values.min() != values.max())


def embedded_profile(data: bytes) -> bytes | None:
    """The ICC profile in the file, of no bytes where it is cut short; None where there is none.

    Raises:
        struct.error: the header is cut short.
    """
    (header,) = struct.unpack_from("<I", data, _FILE_HEADER)
    if header < _WITH_PROFILE or data[70:74] != _EMBEDDED:
        return None
    place, length = struct.unpack_from("<II", data, 126)
    profile = data[_FILE_HEADER + place : _FILE_HEADER + place + length]
    return profile if len(profile) == length else b""
