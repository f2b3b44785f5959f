"""What the header of a JPEG XL says: its package for Pillow decodes a file as soon as it is opened, and all of it.

This file needs nothing: the Triton preprocessing model carries a copy of it, beside `pixels.py`. The headers are
those of ISO/IEC 18181-1 (SizeHeader, ImageMetadata), in a bare codestream or in the boxes of ISO/IEC 18181-2.
"""

from __future__ import annotations

from typing import NamedTuple

_SIGNATURE = b"\xff\x0a"
_SIDE_BITS = (9, 13, 18, 30)
_PREVIEW_SIDE_BITS, _PREVIEW_EIGHTH_BITS = (6, 8, 10, 12), (0, 0, 5, 9)
_RATIOS = ((1, 1), (6, 5), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))  # width to height


class JpegXlError(ValueError):
    """The header is cut short or none of JPEG XL."""


class JpegXlHeader(NamedTuple):
    """The size as it is stored, before any turning, and whether there are several pictures."""

    size: tuple[int, int]
    animated: bool


def read_jpeg_xl_header(data: bytes) -> JpegXlHeader:
    """The header of a file.

    Raises:
        JpegXlError: there is none.
    """
    bits = _Bits(_codestream(data))
    return JpegXlHeader(_size(bits), _animated(bits))


def _size(bits: _Bits) -> tuple[int, int]:
    small = bits.take(1) == 1
    height = _side(bits, small)
    ratio = bits.take(3)
    if ratio == 0:
        return _side(bits, small), height
    across, down = _RATIOS[ratio - 1]
    return height * across // down, height


def _animated(bits: _Bits) -> bool:
    if bits.take(1) or not bits.take(1):  # all as usual, or at least nothing beyond the samples' format
        return False
    bits.take(3)  # the orientation
    if bits.take(1):
        _size(bits)  # for the screen
    if bits.take(1):
        _skip_preview(bits)
    return bits.take(1) == 1


def _skip_preview(bits: _Bits) -> None:
    lengths = _PREVIEW_EIGHTH_BITS if bits.take(1) else _PREVIEW_SIDE_BITS
    bits.take(lengths[bits.take(2)])
    if bits.take(3) == 0:
        bits.take(lengths[bits.take(2)])


def _codestream(data: bytes) -> bytes:
    """The first bytes of the codestream, behind its signature."""
    if data.startswith(_SIGNATURE):
        return data[2:34]
    place = 0
    while place + 8 <= len(data):
        length, name, start = (
            int.from_bytes(data[place : place + 4], "big"),
            data[place + 4 : place + 8],
            place + 8,
        )
        if length == 1:
            length, start = int.from_bytes(data[place + 8 : place + 16], "big"), place + 16
        if name in (b"jxlc", b"jxlp"):
            start += 4 * (name == b"jxlp")  # the part's number
            if data[start : start + 2] == _SIGNATURE:
                return data[start + 2 : start + 34]
            break
        if length == 0 or place + length < start:
            break
        place += length
    raise JpegXlError("no JPEG XL codestream in it")


def _side(bits: _Bits, small: bool) -> int:
    if small:
        return (bits.take(5) + 1) * 8
    return bits.take(_SIDE_BITS[bits.take(2)]) + 1


class _Bits:
    """Reads bits from the least significant one on."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "little"), 8 * len(data)

    def take(self, count: int) -> int:
        """The next `count` bits as a number.

        Raises:
            JpegXlError: there are fewer.
        """
        if count > self._left:
            raise JpegXlError("it is cut short")
        value = self._value & ((1 << count) - 1)
        self._value >>= count
        self._left -= count
        return value
