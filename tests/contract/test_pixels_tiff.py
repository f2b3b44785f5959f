"""TIFFs of every kind: the right pixels, or one line that says which kind is not read."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from picture_bytes import saved, tiff
from PIL import Image

from protoclip.contract.pixels import PictureError, PixelSpec, decode_rgb

SPEC = PixelSpec(height=8, width=8)
SIZE = (5, 4)
GREY = np.random.default_rng(0).integers(0, 256, (4, 5, 1), dtype=np.uint8)
RGB = np.random.default_rng(1).integers(0, 256, (4, 5, 3), dtype=np.uint8)
OPAQUE = np.full_like(GREY, 255)
HALF = np.full_like(GREY, 128)
INKS = np.random.default_rng(2).integers(0, 256, (4, 5, 4), dtype=np.uint8)
INKS_SHOWN = np.asarray(Image.fromarray(INKS, "CMYK").convert("RGB"))


def grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(values, 3, axis=2)


def deep(values: np.ndarray, order: str = "<") -> np.ndarray:
    return (values.astype(np.uint32) * 257).astype(order + "u2")


def with_alpha(colors: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return np.concatenate([colors, alpha], axis=2)


def on_white(colors: np.ndarray) -> np.ndarray:
    """Half transparent: alpha 128 of 255."""
    return np.round((colors.astype(float) * 128 + 255 * 127) / 255).astype(int)


def packed(values: np.ndarray, bits: int) -> bytes:
    """`[H, W]` in rows of whole bytes, the highest bit first."""
    spread = (values[:, :, np.newaxis] >> np.arange(bits)[::-1]) & 1
    return np.packbits(spread.reshape(len(values), -1).astype(np.uint8), axis=1).tobytes()


FINE = np.arange(20).reshape(4, 5)
TWELVE = FINE * 215
SHOWN: dict[str, tuple[bytes, np.ndarray, int]] = {
    "grey": (tiff(GREY, SIZE, 8, 1), grey(GREY), 0),
    "grey from white": (tiff(GREY, SIZE, 8, 0), grey(255 - GREY), 0),
    "16 bits from white": (tiff(deep(GREY), SIZE, 16, 0), grey(255 - GREY), 0),
    "16 bits, big-endian": (tiff(deep(GREY, ">"), SIZE, 16, 1, big_endian=True), grey(GREY), 0),
    "1 bit from white": (tiff(packed(FINE % 2, 1), SIZE, 1, 0), grey(255 * (1 - FINE % 2)[..., np.newaxis]), 0),
    "4 bits": (tiff(packed(FINE % 16, 4), SIZE, 4, 1), grey(17 * (FINE % 16)[..., np.newaxis]), 0),
    "12 bits": (tiff(packed(TWELVE, 12), SIZE, 12, 1), grey(np.round(TWELVE / 4095 * 255)[..., np.newaxis]), 0),
    "12 bits, compressed": (
        tiff(packed(TWELVE, 12), SIZE, 12, 1, deflate=True),
        grey(np.round(TWELVE / 4095 * 255)[..., np.newaxis]),
        0,
    ),
    "grey and alpha": (tiff(with_alpha(GREY, HALF), SIZE, 8, 1, 2, t338=(2,)), on_white(grey(GREY)), 1),
    "grey and something": (tiff(with_alpha(GREY, HALF), SIZE, 8, 1, 2, t338=(0,)), grey(GREY), 0),
    "RGB": (tiff(RGB, SIZE, 8, 2, 3), RGB, 0),
    "RGB, 16 bits": (tiff(deep(RGB), SIZE, 16, 2, 3), RGB, 0),
    "RGB in planes": (tiff(RGB, SIZE, 8, 2, 3, planar=True), RGB, 0),
    "RGB in planes, compressed": (tiff(RGB, SIZE, 8, 2, 3, planar=True, deflate=True), RGB, 0),
    "RGB in planes, 16 bits, compressed": (tiff(deep(RGB), SIZE, 16, 2, 3, planar=True, deflate=True), RGB, 0),
    "RGBA": (tiff(with_alpha(RGB, HALF), SIZE, 8, 2, 4, t338=(2,)), on_white(RGB), 1),
    "RGBA in planes": (tiff(with_alpha(RGB, HALF), SIZE, 8, 2, 4, planar=True, t338=(2,)), on_white(RGB), 1),
    "premultiplied": (tiff(with_alpha(RGB // 2, HALF), SIZE, 8, 2, 4, t338=(1,)), on_white(RGB), 3),
    "a fourth sample of 0, unnamed": (tiff(with_alpha(RGB, OPAQUE * 0), SIZE, 8, 2, 4), RGB, 0),
    "CMYK": (tiff(INKS, SIZE, 8, 5, 4), INKS_SHOWN, 0),
    "CMYK in planes": (tiff(INKS, SIZE, 8, 5, 4, planar=True), INKS_SHOWN, 0),
    "CMYK in planes, compressed": (tiff(INKS, SIZE, 8, 5, 4, planar=True, deflate=True), INKS_SHOWN, 0),
    "palette": (
        tiff(GREY, SIZE, 8, 3, t320=tuple(257 * np.r_[np.arange(256), np.zeros(256, int), np.arange(256)[::-1]])),
        np.concatenate([GREY, 0 * GREY, 255 - GREY], axis=2),
        0,
    ),
    "palette of 8 bits": (
        tiff(GREY, SIZE, 8, 3, t320=tuple(np.r_[np.arange(256), np.zeros(256, int), np.arange(256)[::-1]])),
        np.concatenate([GREY, 0 * GREY, 255 - GREY], axis=2),
        0,
    ),
}


@pytest.mark.parametrize("name", SHOWN)
def test_a_tiff_is_what_it_shows(name: str) -> None:
    data, shown, tolerance = SHOWN[name]
    found = np.asarray(decode_rgb(data, SPEC)).astype(int)
    assert found.shape == shown.shape
    assert np.abs(found - shown).max() <= tolerance


SIGNED = (GREY.astype(int) - 128).astype(np.int8)
UNREADABLE: dict[str, tuple[bytes, str]] = {
    "grey and alpha in planes": (
        tiff(with_alpha(GREY, OPAQUE), SIZE, 8, 1, 2, planar=True, t338=(2,)),
        "grey with alpha in separate planes",
    ),
    "grey and alpha in planes, compressed": (
        tiff(with_alpha(GREY, OPAQUE), SIZE, 8, 1, 2, planar=True, deflate=True, t338=(2,)),
        "grey with alpha in separate planes",
    ),
    "RGB in planes, 16 bits": (tiff(deep(RGB), SIZE, 16, 2, 3, planar=True), "16-bit samples in separate planes"),
    "premultiplied in planes": (
        tiff(with_alpha(RGB, OPAQUE), SIZE, 8, 2, 4, planar=True, t338=(1,)),
        "samples in separate planes, of colours that are not plain RGB, RGBA or CMYK",
    ),
    "signed, 8 bits": (tiff(SIGNED, SIZE, 8, 1, t339=(2,)), "signed samples"),
    "signed, 16 bits": (tiff(GREY.astype(np.int16) * 99, SIZE, 16, 1, t339=(2,)), "signed samples"),
    "signed RGB": (tiff(RGB.view(np.int8), SIZE, 8, 2, 3, t339=(2, 2, 2)), "signed samples"),
    **{
        f"{bits} bits": (tiff(packed(FINE * 3, bits), SIZE, bits, 1), f"{bits}-bit samples")
        for bits in (6, 10, 14, 24)
    },
    "12 bits, big-endian": (tiff(packed(FINE, 12), SIZE, 12, 1, big_endian=True), "12-bit samples, 1 a pixel"),
    "32 bits": (tiff(GREY.astype(np.uint32), SIZE, 32, 1), "32-bit samples"),
    "float16": (tiff(GREY.astype(np.float16), SIZE, 16, 1, t339=(3,)), "floating-point samples"),
    "float32": (tiff(GREY.astype(np.float32), SIZE, 32, 1, t339=(3,)), "floating-point samples"),
    "float32 RGB": (tiff(RGB.astype(np.float32), SIZE, 32, 2, 3, t339=(3, 3, 3)), "floating-point samples"),
    "float64": (tiff(GREY.astype(np.float64), SIZE, 64, 1, t339=(3,)), "floating-point samples"),
    "Lab": (tiff(RGB, SIZE, 8, 8, 3), "Lab colours"),
    "Lab of ICC": (tiff(RGB, SIZE, 8, 9, 3), "Lab colours"),
    "Lab, 16 bits": (tiff(deep(RGB), SIZE, 16, 8, 3), "Lab colours"),
    "other inks": (tiff(INKS, SIZE, 8, 5, 4, t332=(2,)), "inks other than cyan, magenta, yellow and black"),
    "YCbCr": (tiff(RGB, SIZE, 8, 6, 3, t530=(1, 1)), "uncompressed YCbCr"),
    "YCbCr, colours of fewer pixels": (tiff(bytes(60), SIZE, 8, 6, 3, t530=(2, 2)), "uncompressed YCbCr"),
    "a sensor's": (tiff(deep(GREY), SIZE, 16, 32803), "a camera's raw samples"),
    "a camera's preview": (tiff(RGB, SIZE, 8, 2, 3, t254=(1,), t330=(8,)), "a preview first"),
    "black or white": (tiff(GREY, SIZE, 8, None), "unknown colours"),
    "grey and alpha, 16 bits": (
        tiff(deep(with_alpha(GREY, OPAQUE)), SIZE, 16, 1, 2, t338=(2,)),
        "16-bit samples, 2 a pixel, PhotometricInterpretation 1",
    ),
    "big-endian, offsets of 64 bits": (b"MM\0+" + bytes(60), "big-endian byte order with offsets of 64 bits"),
    "JPEG 2000": (tiff(RGB, SIZE, 8, 2, 3, t259=(34712,)), r"compression 34712 \(JPEG 2000\)"),
    "an unknown compression": (tiff(RGB, SIZE, 8, 2, 3, t259=(65000,)), "compression 65000"),
    "an unnamed plane": (
        tiff(with_alpha(RGB, OPAQUE), SIZE, 8, 2, 4, planar=True, t338=(0,)),
        "uncompressed samples in separate planes, one of them unnamed",
    ),
    "palette of 16 bits": (
        tiff(deep(GREY), SIZE, 16, 3),
        "16-bit samples, 1 a pixel, PhotometricInterpretation 3",
    ),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_tiff_that_would_look_wrong_is_named(name: str) -> None:
    data, kind = UNREADABLE[name]
    with pytest.raises(PictureError, match=f"^a TIFF of {kind}.* is not read: save it as 8-bit RGB or grey$"):
        decode_rgb(data, SPEC)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_jpeg", "tiff_adobe_deflate", "packbits", None])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_what_pillow_writes_is_read_as_it_says(mode: str, compression: str | None) -> None:
    smooth = np.linspace(0, 255, 32 * 32 * 3).reshape(32, 32, 3).astype(np.uint8)
    image = Image.fromarray(smooth).convert(mode)
    options: dict[str, Any] = {} if compression is None else {"compression": compression}
    data = saved(image, format="TIFF", **options)
    found = np.asarray(decode_rgb(data, SPEC)).astype(int)
    assert np.abs(found - np.asarray(image.convert("RGB"))).mean() < 4


def test_big_tiffs_are_looked_into_too() -> None:
    data = saved(Image.fromarray(RGB), format="TIFF", big_tiff=True)
    np.testing.assert_array_equal(np.asarray(decode_rgb(data, SPEC)), RGB)
    with pytest.raises(PictureError, match="floating-point"):
        decode_rgb(saved(Image.new("F", (4, 4)), format="TIFF", big_tiff=True), SPEC)


def test_the_first_of_several_pages() -> None:
    pages = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    data = saved(pages[0], format="TIFF", save_all=True, append_images=pages[1:])
    assert decode_rgb(data, SPEC).getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize("tag", [{254: 1}, {255: 2}])
def test_a_preview_before_the_picture_is_named(tag: dict[int, int]) -> None:
    preview, picture = Image.new("RGB", (2, 2), "red"), Image.new("RGB", (8, 8), "blue")
    first = saved(preview, format="TIFF", tiffinfo=tag)
    assert decode_rgb(first, SPEC).size == (2, 2)  # whatever it is called, there is no other
    both = with_second_page(first, saved(picture, format="TIFF"))
    with pytest.raises(PictureError, match="a TIFF of a preview first and the picture elsewhere"):
        decode_rgb(both, SPEC)


def with_second_page(first: bytes, second: bytes) -> bytes:
    """Two little-endian TIFFs as the pages of one; the second's pixels are not looked for."""
    (tags,) = struct.unpack_from("<I", first, 4)
    (count,) = struct.unpack_from("<H", first, tags)
    (place,) = struct.unpack_from("<I", second, 4)
    link = tags + 2 + 12 * count
    return first[:link] + struct.pack("<I", len(first) + place) + first[link + 4 :] + second
