"""PIL images that were opened from files: what arrives shows what the file would, also where Pillow errs."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from icc_profiles import DISPLAY_P3, grey_profile, matrix_profile
from picture_bytes import bmp, png, saved, tiff
from PIL import Image

from protoclip.client.errors import BadItem
from protoclip.client.inputs import image_bytes
from protoclip.contract.pixels import PixelSpec, decode_rgb

SPEC = PixelSpec(8, 8, color_management="srgb")
SIZE = (5, 4)
PIXELS = np.random.default_rng(0).integers(0, 256, (4, 5, 4), dtype=np.uint8)
PIXELS[..., 3] = 0
DEEP = PIXELS[..., :1].astype("<u2") * 257
SMALL_MAP = (*range(256), *range(255, -1, -1), *[128] * 256)  # red, green, blue
LEVELS = bytes.fromhex("00 1b")  # without a filter 0, 1, 2, 3 of 2 bits


def packed_12_bits() -> bytes:
    values = np.arange(20).reshape(4, 5) * 215
    bits = (values[:, :, np.newaxis] >> np.arange(12)[::-1]) & 1
    return np.packbits(bits.reshape(4, -1).astype(np.uint8), axis=1).tobytes()


ON_ITS_SIDE = Image.Exif()
ON_ITS_SIDE[0x0112] = 6
FILES = {
    "BMP with an unused alpha": bmp(32, PIXELS.tobytes(), (0xFF0000, 0xFF00, 0xFF, 0xFF000000), SIZE),
    "TIFF with an unused alpha": tiff(PIXELS, SIZE, 8, 2, 4),
    "TIFF that counts from white": tiff(DEEP, SIZE, 16, 0),
    "TIFF of 12 bits": tiff(packed_12_bits(), SIZE, 12, 1),
    "TIFF with a colour map of 8 bits": tiff(PIXELS[..., :1], SIZE, 8, 3, t320=SMALL_MAP),
    "PNG of 2 bits": png((4, 1), 2, 0, LEVELS, alpha=struct.pack(">H", 2)),
    "PNG of 16 bits": png((2, 1), 16, 2, bytes([0, 9, 1, 8, 2, 7, 3, *range(6)]), alpha=bytes([9, 1, 8, 2, 7, 3])),
    "JPEG on its side": saved(Image.fromarray(PIXELS[..., :3]), format="JPEG", exif=ON_ITS_SIDE),
    "TIFF on its side": tiff(PIXELS[..., :3], SIZE, 8, 2, 3, t274=(6,)),
}


@pytest.mark.parametrize("name", FILES)
def test_it_shows_what_the_file_does(name: str) -> None:
    data = FILES[name]
    expected = np.asarray(decode_rgb(data, SPEC))
    assert len(np.unique(expected.reshape(-1, 3), axis=0)) > 1
    image = Image.open(io.BytesIO(data))
    sent = image_bytes(image)
    seen = image.tobytes()
    assert sent == image_bytes(image)
    np.testing.assert_array_equal(np.asarray(decode_rgb(sent, SPEC)), expected)
    assert image.tobytes() == seen


def test_a_tiff_that_pillow_reads_wrongly_is_named() -> None:
    data = tiff(PIXELS[..., :1].view(np.int8), SIZE, 8, 1, t339=(2,))
    with pytest.raises(BadItem, match="the PIL image can't be sent: a TIFF of signed samples is not read"):
        image_bytes(Image.open(io.BytesIO(data)))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1"])
@pytest.mark.parametrize("transparent", [False, True])
def test_a_large_profile_goes_with_its_pixels(mode: str, transparent: bool) -> None:
    """Printers' and scanners' have more than the 1 MiB that is read of a PNG."""
    plain = Image.fromarray(PIXELS[..., :3]).convert(mode)
    if transparent and mode in ("RGB", "L", "P"):
        plain.info["transparency"] = plain.getpixel((0, 0))
    profile = grey_profile(1.8) if mode in ("L", "LA", "1") else matrix_profile(DISPLAY_P3)
    expected = decode_rgb(saved(plain, icc_profile=profile), SPEC)
    plain.info["icc_profile"] = profile + bytes(2**20)
    np.testing.assert_array_equal(np.asarray(decode_rgb(image_bytes(plain), SPEC)), np.asarray(expected))


def test_a_tiff_on_its_side_with_a_large_profile() -> None:
    """Pillow would write the turn down again that was made."""
    image = Image.fromarray(PIXELS[..., :3])
    image.info["icc_profile"] = matrix_profile(DISPLAY_P3) + bytes(2**20)
    data = saved(image, format="TIFF", tiffinfo={274: 6})
    expected = np.asarray(decode_rgb(data, SPEC))
    assert expected.shape == (5, 4, 3)
    sent = image_bytes(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(np.asarray(decode_rgb(sent, SPEC)), expected)


def test_a_damaged_one_of_any_format_is_a_bad_item() -> None:
    """Pillow raises RuntimeError for AVIF, which would end the whole batch."""
    data = saved(Image.fromarray(PIXELS[..., :3]), format="AVIF")
    start = data.index(b"mdat") + 4
    damaged = data[:start] + bytes(len(data) - start)
    with Image.open(io.BytesIO(damaged)) as image, pytest.raises(BadItem, match="can't be sent: Failed to decode"):
        image_bytes(image)
