"""BMPs of 16 bits with an alpha mask, which Pillow reads without it.

This file needs NumPy only: the Triton preprocessing model carries a copy of it, beside `pixels.py`.
"""

from __future__ import annotations

import struct

import numpy as np

_BIT_FIELDS = (3, 6)
_WITH_ALPHA_MASK = 56  # the smallest header that has one


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
