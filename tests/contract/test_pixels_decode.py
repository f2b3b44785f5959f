"""From picture files to RGB: exact colours, and one line for what is no picture."""

from __future__ import annotations

import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from picture_bytes import FORMATS, bmp, png, saved, smooth
from PIL import Image, ImageFile

from protoclip.contract.pixels import PictureError, PixelSpec, decode_rgb, load_pixels, to_rgb

SPEC = PixelSpec(height=8, width=8)
RED_HALF_ON_WHITE = (255, 127, 127)  # alpha 128: (255 * 128 + 255 * 127, 255 * 127, …) / 255


def pixels(data: bytes, spec: PixelSpec = SPEC) -> list[tuple[int, ...]]:
    image = decode_rgb(data, spec)
    assert image.mode == "RGB"
    return [tuple(pixel) for pixel in np.asarray(image).reshape(-1, 3).tolist()]


@pytest.mark.parametrize(
    ("value", "expected"), [(0, 0), (128, 0), (129, 1), (257, 1), (32768, 128), (65406, 254), (65535, 255)]
)
def test_16_bit_grey_is_scaled_by_257(value: int, expected: int) -> None:
    data = png((1, 1), 16, 0, b"\0" + struct.pack(">H", value))
    assert pixels(data) == [(expected,) * 3]
    tiff = saved(Image.fromarray(np.array([[value]], dtype=np.uint16)), format="TIFF")
    assert pixels(tiff) == [(expected,) * 3]
    assert (
        to_rgb(Image.fromarray(np.array([[value]], dtype=np.int32)), (0, 0, 0)).getpixel((0, 0)) == (expected,) * 3
    )


def test_16_bit_tiff_that_counts_from_white() -> None:
    tags = [
        (256, 3, 1),
        (257, 3, 1),
        (258, 3, 16),
        (259, 3, 1),
        (262, 3, 0),
        (273, 4, 8),
        (277, 3, 1),
        (279, 4, 2),
    ]
    body = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    data = b"II*\0" + struct.pack("<IHH", 12, 65535 - 1000, 0) + struct.pack("<H", len(tags)) + body + bytes(4)
    assert pixels(data) == [(4, 4, 4)]


def test_16_bit_grey_with_a_transparent_value() -> None:
    data = png((2, 1), 16, 0, b"\0" + struct.pack(">HH", 1000, 32768), alpha=struct.pack(">H", 1000))
    assert pixels(data) == [(255, 255, 255), (128, 128, 128)]


def test_16_bit_colour_and_its_transparent_value() -> None:
    rows = b"\0" + struct.pack(">6H", 65535, 0, 0x8000, 0, 65535, 0)
    assert pixels(png((2, 1), 16, 2, rows)) == [(255, 0, 128), (0, 255, 0)]
    transparent = struct.pack(">3H", 65535, 0, 0x8000)
    assert pixels(png((2, 1), 16, 2, rows, alpha=transparent)) == [(255, 255, 255), (0, 255, 0)]


@pytest.mark.parametrize(
    ("depth", "row", "expected"),
    [
        (1, 0b01000000, [0, 255]),
        (2, 0b00011011, [0, 85, 170, 255]),
        (4, 0b00001000, [0, 136]),
    ],
)
def test_grey_of_few_bits_fills_the_range(depth: int, row: int, expected: list[int]) -> None:
    data = png((len(expected), 1), depth, 0, bytes([0, row]))
    assert pixels(data) == [(grey,) * 3 for grey in expected]


@pytest.mark.parametrize(("depth", "row", "last"), [(1, 0b01000000, 1), (2, 0b00110000, 3), (4, 0b00001111, 15)])
def test_transparent_value_of_few_bits(depth: int, row: int, last: int) -> None:
    data = png((2, 1), depth, 0, bytes([0, row]), alpha=struct.pack(">H", last))
    assert pixels(data, PixelSpec(8, 8, background=(9, 8, 7))) == [(0, 0, 0), (9, 8, 7)]


def test_palette_with_half_transparent_entry() -> None:
    palette = bytes([255, 0, 0, 0, 0, 255])
    data = png((2, 1), 1, 3, bytes([0, 0b01000000]), palette=palette, alpha=bytes([128, 255]))
    assert pixels(data) == [RED_HALF_ON_WHITE, (0, 0, 255)]


def test_gif_transparency_shows_the_background() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.putpixel((1, 0), 1)
    data = saved(image, format="GIF", transparency=0)
    assert pixels(data) == [(255, 255, 255), (0, 255, 0)]
    assert pixels(data, PixelSpec(8, 8, background=(1, 2, 3))) == [(1, 2, 3), (0, 255, 0)]


@pytest.mark.parametrize("options", [FORMATS["png"], FORMATS["webp"], FORMATS["tiff"]], ids=lambda o: o["format"])
def test_alpha_is_laid_on_the_background(options: dict[str, object]) -> None:
    image = Image.new("RGBA", (3, 1), (255, 0, 0, 128))
    image.putpixel((1, 0), (10, 20, 30, 0))
    image.putpixel((2, 0), (10, 20, 30, 255))
    assert pixels(saved(image, **options)) == [RED_HALF_ON_WHITE, (255, 255, 255), (10, 20, 30)]


@pytest.mark.parametrize("mode", ["LA", "PA", "La", "RGBa"])
def test_other_modes_with_alpha(mode: str) -> None:
    image = Image.new({"PA": "P", "RGBa": "RGB"}.get(mode, "L"), (1, 1))
    image.putalpha(128)
    assert to_rgb(image.convert(mode), (255, 255, 255)).getpixel((0, 0)) == (127, 127, 127)


def test_transparent_png_is_not_black() -> None:
    assert pixels(saved(Image.new("RGBA", (1, 1), (0, 0, 0, 0)))) == [(255, 255, 255)]


def test_cmyk_red_in_tiff_and_in_an_adobe_jpeg() -> None:
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    assert set(pixels(saved(red, format="TIFF"))) == {(255, 0, 0)}
    jpeg = saved(red, format="JPEG", quality=100)
    assert b"Adobe" in jpeg
    assert np.abs(np.array(pixels(jpeg)) - (255, 0, 0)).max() <= 2


def test_cmyk_black_ink_darkens() -> None:
    assert to_rgb(Image.new("CMYK", (1, 1), (0, 255, 255, 128)), (0, 0, 0)).getpixel((0, 0)) == (127, 0, 0)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format(name: str) -> None:
    image = smooth()
    if name == "gif":
        image = image.quantize(64)
    decoded = np.asarray(decode_rgb(saved(image, **FORMATS[name]), SPEC), dtype=int)
    tolerance = 8 if FORMATS[name]["format"] == "JPEG" else 0
    assert np.abs(decoded - np.asarray(image.convert("RGB"), dtype=int)).max() <= tolerance


UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("options", [FORMATS["png"], FORMATS["webp"], FORMATS["tiff"], FORMATS["tiff-lzw"]])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation(orientation: int, options: dict[str, object]) -> None:
    stored = np.arange(3 * 5 * 3, dtype=np.uint8).reshape(3, 5, 3) * 5
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(Image.fromarray(stored), exif=exif, **options)
    np.testing.assert_array_equal(np.asarray(decode_rgb(data, SPEC)), UPRIGHT[orientation](stored))


def test_exif_orientation_of_a_jpeg() -> None:
    stored = np.zeros((16, 48, 3), dtype=np.uint8)
    stored[:, :16] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    decoded = np.asarray(decode_rgb(saved(Image.fromarray(stored), format="JPEG", exif=exif), SPEC))
    assert decoded.shape == (48, 16, 3)
    assert decoded[:16].min() > 240
    assert decoded[16:].max() < 15


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_unknown_orientation_is_upright(value: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    assert decode_rgb(saved(smooth(), exif=exif), SPEC).size == (64, 48)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")
def test_broken_exif_is_no_reason_to_refuse() -> None:
    data = saved(smooth(), format="JPEG", exif=b"Exif\0\0MM\0\x2a\xff\xff\xff\xff")
    assert decode_rgb(data, SPEC).size == (64, 48)


@pytest.mark.parametrize("name", ["GIF", "PNG", "WEBP", "TIFF"])
def test_first_picture_of_several(name: str) -> None:
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue", "lime")]
    options = {"lossless": True} if name == "WEBP" else {}
    data = saved(frames[0], format=name, save_all=True, append_images=frames[1:], **options)
    assert set(pixels(data)) == {(255, 0, 0)}


def test_modes_without_agreed_range() -> None:
    with pytest.raises(PictureError, match="mode F"):
        to_rgb(Image.new("F", (2, 2)), (0, 0, 0))
    with pytest.raises(PictureError, match="32-bit grey"):
        to_rgb(Image.new("I", (2, 2), 1 << 20), (0, 0, 0))
    with pytest.raises(PictureError, match="mode LAB"):
        to_rgb(Image.new("LAB", (2, 2)), (0, 0, 0))


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damaged_files_give_a_picture_or_one_line(data: st.DataObject) -> None:
    whole = bytearray(ORIGINALS[data.draw(st.sampled_from(sorted(ORIGINALS)))])
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        result = load_pixels(bytes(whole), PixelSpec(8, 8, max_pixels=10_000)).shape
    except PictureError as error:
        result = str(error)
    assert result == (8, 8, 3) or (isinstance(result, str) and "\n" not in result)


ORIGINALS = {
    name: saved(smooth(16, 12).quantize(8) if name == "gif" else smooth(16, 12), **options)
    for name, options in FORMATS.items()
}


def test_threads_agree_and_no_global_setting_changes() -> None:
    truncated, largest = ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS
    data = saved(smooth(), format="JPEG")
    expected = load_pixels(data, SPEC)
    with ThreadPoolExecutor(8) as pool:
        for result in pool.map(load_pixels, [data] * 64, [SPEC] * 64):
            np.testing.assert_array_equal(result, expected)
    assert truncated == ImageFile.LOAD_TRUNCATED_IMAGES
    assert largest == Image.MAX_IMAGE_PIXELS


def bmp_with_alpha(pixels: np.ndarray) -> bytes:
    """A 32-bit BMP whose masks call the fourth byte alpha: `[H, W, 4]` RGBA."""
    height, width = pixels.shape[:2]
    rows = pixels[::-1, :, [2, 1, 0, 3]].tobytes()
    return bmp(32, rows, (0xFF0000, 0xFF00, 0xFF, 0xFF000000), (width, height))


def test_an_alpha_channel_of_zeros_in_a_bmp_is_none() -> None:
    """Programs that know no alpha write such files: the picture became white."""
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 4), dtype=np.uint8)
    pixels[..., 3] = 0
    np.testing.assert_array_equal(np.asarray(decode_rgb(bmp_with_alpha(pixels), SPEC)), pixels[..., :3])
    pixels[2, 3, 3] = 255
    shown = np.asarray(decode_rgb(bmp_with_alpha(pixels), SPEC))
    assert shown[2, 3].tolist() == pixels[2, 3, :3].tolist()
    assert (np.delete(shown.reshape(-1, 3), 2 * 7 + 3, axis=0) == 255).all()


MASKS_1555 = (0x7C00, 0x3E0, 0x1F, 0x8000)


@pytest.mark.parametrize("alpha", [0, 0x8000])
def test_a_bmp_of_16_bits(alpha: int) -> None:
    rows = struct.pack("<3HH", 0x7C00 | alpha, 0x3E0 | alpha, 0x1F | alpha, 0)
    assert pixels(bmp(16, rows, MASKS_1555, (3, 1))) == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    assert pixels(bmp(16, rows, MASKS_1555, (3, -1))) == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    five_six_five = struct.pack("<2H", 0xF800, 0x07E0)
    assert pixels(bmp(16, five_six_five, (0xF800, 0x7E0, 0x1F, 0), (2, 1))) == [(255, 0, 0), (0, 255, 0)]


def test_bmps_that_pillow_gets_wrong_or_not_at_all_are_named() -> None:
    mixed = struct.pack("<2H", 0xFC00, 0x03E0)
    with pytest.raises(PictureError, match="a BMP of 16 bits with transparency is not read: save it as PNG"):
        decode_rgb(bmp(16, mixed, MASKS_1555, (2, 1)), SPEC)
    for bits, masks in ((16, (0xF00, 0xF0, 0xF, 0)), (32, (0x3FF00000, 0xFFC00, 0x3FF, 0))):
        with pytest.raises(PictureError, match="a BMP with these bit masks is not read: save it as PNG"):
            decode_rgb(bmp(bits, bytes(8), masks, (2, 1)), SPEC)


def test_a_bmp_with_the_oldest_header() -> None:
    header = struct.pack("<IHHHH", 12, 1, 1, 1, 24)
    data = struct.pack("<2sIHHI", b"BM", 30, 0, 0, 26) + header + bytes([1, 2, 3, 0])
    assert pixels(data) == [(3, 2, 1)]


def test_inks_as_ycck_jpegs_have_them() -> None:
    """Adobe's: brightness and colour of the inverted inks, and inverted black."""
    ink = (0, 255, 255, 0)  # red
    stored = Image.new("RGB", (16, 16), ink[:3]).convert("YCbCr").getpixel((0, 0))
    # Pillow inverts what it writes, and says that it is CMYK.
    written = Image.new("CMYK", (16, 16), (*(255 - value for value in stored), 0))
    jpeg = bytearray(saved(written, format="JPEG", quality=100))
    jpeg[jpeg.index(b"Adobe") + 11] = 2
    assert np.abs(np.array(pixels(bytes(jpeg))) - (255, 0, 0)).max() <= 3
