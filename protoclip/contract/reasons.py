"""Why single items of a request are bad, as a tensor of numbers: uint8 `[B, 256]`.

A public model has no output of type BYTES: Triton 2.51 ends where a request asks for the classification of one.
This file needs NumPy only: the Triton preprocessing models carry copies of it. `B` items.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

REASON_BYTES = 256
"""Bytes of a reason; longer ones are cut off at a character's border."""


def pack_reasons(reasons: Sequence[str]) -> NDArray[np.uint8]:
    """UTF-8, padded by zeros, uint8 `[B, 256]`; the row of an empty reason, of a good item, is all zeros.

    A reason's NUL characters become blanks, and what is half a surrogate pair a question mark.
    """
    rows = np.zeros((len(reasons), REASON_BYTES), dtype=np.uint8)
    for row, reason in zip(rows, reasons, strict=True):
        data = _head(reason.replace("\0", " ").encode("utf-8", "replace"))
        row[: len(data)] = np.frombuffer(data, dtype=np.uint8)
    return rows


def unpack_reasons(rows: NDArray[np.uint8]) -> tuple[str, ...]:
    """The inverse of `pack_reasons`; what is not UTF-8 is replaced, so that a bad row never looks good."""
    return tuple(row.tobytes().rstrip(b"\0").decode("utf-8", "replace") for row in rows)


def _head(data: bytes) -> bytes:
    """At most `REASON_BYTES`, without a character that is cut in two."""
    return data if len(data) <= REASON_BYTES else data[:REASON_BYTES].decode("utf-8", "ignore").encode("utf-8")
