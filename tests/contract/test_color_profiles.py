"""Colour profiles: to sRGB where the specification says so, else as stored; sRGB's own changes nothing."""

from __future__ import annotations

import struct
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from icc_profiles import (
    D50,
    DISPLAY_P3,
    SRGB,
    encoded,
    gamma_curve,
    grey_profile,
    linear,
    matrix_profile,
    p3_in_srgb,
    profile,
    table_profile,
    xyb,
    xyb_profile,
)
from picture_bytes import png, saved
from PIL import Image, ImageCms

from protoclip.contract import color_profiles
from protoclip.contract.color_profiles import conversion
from protoclip.contract.pixels import PictureError, PixelSpec, decode_rgb, load_pixels

STORED = PixelSpec(height=8, width=8)
MANAGED = PixelSpec(height=8, width=8, color_management="srgb")
STEPS = np.arange(0, 256, 51, dtype=np.uint8)
COLORS = np.stack(np.meshgrid(STEPS, STEPS, STEPS), axis=-1).reshape(12, 18, 3)
GREYS = np.arange(256, dtype=np.uint8).reshape(16, 16)
P3 = matrix_profile(DISPLAY_P3)
SRGB_PROFILES = {
    "Pillow's": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
    "our own": matrix_profile(SRGB),
}
LOSSLESS: dict[str, dict[str, Any]] = {
    "PNG": {"format": "PNG"},
    "WebP": {"format": "WEBP", "lossless": True, "exact": True},
    "TIFF": {"format": "TIFF"},
    "TIFF, compressed": {"format": "TIFF", "compression": "tiff_lzw"},
}


def shown(data: bytes, spec: PixelSpec = MANAGED) -> np.ndarray:
    return np.asarray(decode_rgb(data, spec)).astype(int)


def by_pillow(image: Image.Image, icc: bytes) -> np.ndarray:
    converted = ImageCms.profileToProfile(image, BytesIO(icc), ImageCms.createProfile("sRGB"), outputMode="RGB")
    assert converted is not None
    return np.asarray(converted).astype(int)


def swapped(channels: np.ndarray) -> np.ndarray:
    """Light of a device whose first channel is mostly blue and whose last is mostly red; its white is white."""
    return channels @ np.array([[0.3, 0, 0.8], [0, 1, 0], [0.7, 0, 0.2]])


def inks_light(inks: np.ndarray) -> np.ndarray:
    """Light of inks that are not pure: cyan lets no red through and little green."""
    cyan, magenta, yellow, black = inks.T
    paper = 1 - black
    return np.stack(
        [(1 - cyan) * paper, (1 - 0.4 * cyan) * (1 - magenta) * paper, (1 - 0.6 * magenta) * (1 - yellow) * paper],
        axis=1,
    )


@pytest.mark.parametrize("name", LOSSLESS)
def test_display_p3_becomes_srgb(name: str) -> None:
    image = Image.fromarray(COLORS)
    data = saved(image, icc_profile=P3, **LOSSLESS[name])
    assert np.abs(shown(data) - p3_in_srgb(COLORS)).max() <= 1.5
    np.testing.assert_array_equal(shown(data), by_pillow(image, P3))
    np.testing.assert_array_equal(shown(data, STORED), COLORS)


@pytest.mark.parametrize("options", [{"format": "JPEG", "quality": 100, "subsampling": 0}, {"format": "AVIF"}])
def test_lossy_files_of_display_p3(options: dict[str, Any]) -> None:
    orange = np.full((16, 16, 3), (220, 120, 40), dtype=np.uint8)
    data = saved(Image.fromarray(orange), icc_profile=P3, **options)
    assert np.abs(shown(data) - p3_in_srgb(orange)).max() <= 6
    assert np.abs(shown(data, STORED) - orange).max() <= 4
    assert np.abs(p3_in_srgb(orange) - orange).max() > 15


@pytest.mark.parametrize("name", SRGB_PROFILES)
def test_srgb_is_recognised_and_leaves_every_bit(name: str) -> None:
    icc = SRGB_PROFILES[name]
    assert conversion(icc, "RGB") is None
    np.testing.assert_array_equal(shown(saved(Image.fromarray(COLORS), icc_profile=icc)), COLORS)


def test_a_profile_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []
    build = ImageCms.buildTransform
    monkeypatch.setattr(
        ImageCms, "buildTransform", lambda *given, **named: (built.append("transform"), build(*given, **named))[1]
    )
    color_profiles.conversion.cache_clear()
    for icc in (SRGB_PROFILES["our own"], P3):
        for _ in range(3):
            shown(saved(Image.fromarray(COLORS), icc_profile=icc))
    assert len(built) == 2


def test_a_profile_with_a_table_as_xyb_jpegs_have() -> None:
    icc = table_profile(b"RGB ", swapped)
    image = Image.fromarray(COLORS)
    data = saved(image, icc_profile=icc)
    expected = encoded(swapped(COLORS.reshape(-1, 3) / 255)).reshape(COLORS.shape)
    assert np.abs(shown(data) - expected).max() <= 2
    np.testing.assert_array_equal(shown(data), by_pillow(image, icc))


@pytest.mark.parametrize("options", [{"format": "PNG"}, {"format": "JPEG", "quality": 100, "keep_rgb": True}])
def test_xyb_jpegs(options: dict[str, Any]) -> None:
    """The colours that were encoded come out, as LittleCMS has them, and dark ones stay as light as they are."""
    icc, greys = xyb_profile(), np.repeat(GREYS[..., np.newaxis], 3, axis=2)
    for colors, limit in ((greys, 1.5), (COLORS, 4)):
        data = saved(Image.fromarray(xyb(colors)).resize((288, 192), 0), icc_profile=icc, **options)
        found = shown(data)
        wanted = np.asarray(Image.fromarray(colors).resize((288, 192), 0)).astype(int)
        assert np.abs(found - wanted).mean() < limit
        assert np.abs(shown(data, STORED) - wanted).mean() > 20
        by_lcms = ImageCms.profileToProfile(
            Image.open(BytesIO(data)),
            BytesIO(icc),
            ImageCms.createProfile("sRGB"),
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
        )
        np.testing.assert_array_equal(found, np.asarray(by_lcms))
    dark = np.full((16, 16, 3), 20, dtype=np.uint8)
    assert np.abs(shown(saved(Image.fromarray(xyb(dark)), icc_profile=icc, **options)) - 20).max() <= 2


@pytest.mark.parametrize("depth", [8, 16])
def test_grey_with_a_grey_profile(depth: int) -> None:
    values = GREYS if depth == 8 else (GREYS.astype(np.uint16) * 257)
    data = saved(Image.fromarray(values), icc_profile=grey_profile(1.8))
    expected = np.repeat(encoded((GREYS / 255) ** 1.8)[..., np.newaxis], 3, axis=2)
    assert np.abs(shown(data) - expected).max() <= 2
    assert np.abs(expected[..., 0] - GREYS).max() > 9
    assert (shown(data, STORED)[..., 0] == GREYS).all()


def test_grey_with_a_profile_for_colours() -> None:
    """Programs make pictures grey and keep their profile: then the three channels are alike."""
    icc = matrix_profile(DISPLAY_P3, gamma_curve(1.0))
    for image in (Image.fromarray(GREYS), Image.fromarray(GREYS > 99)):
        found = shown(saved(image, icc_profile=icc, format="TIFF"))
        expected = encoded(np.asarray(image.convert("L")) / 255)
        assert np.abs(found - expected[..., np.newaxis]).max() <= 2


def test_colours_of_a_palette_and_of_premultiplied_alpha() -> None:
    image = Image.fromarray((np.arange(64) % 3).astype(np.uint8).reshape(8, 8), "P")
    palette = np.array([[200, 30, 40], [20, 190, 60], [90, 80, 70]], dtype=np.uint8)
    image.putpalette(palette.ravel().tolist())
    assert np.abs(shown(saved(image, icc_profile=P3)) - p3_in_srgb(palette)[np.asarray(image)]).max() <= 1.5
    transparent = shown(saved(image, icc_profile=P3, transparency=1))
    assert (transparent[np.asarray(image) == 1] == 255).all()
    assert np.abs(transparent - p3_in_srgb(palette)[np.asarray(image)])[np.asarray(image) != 1].max() <= 1.5


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_blended_behind_the_conversion(mode: str) -> None:
    icc = P3 if mode == "RGBA" else grey_profile(1.8)
    image = Image.fromarray(COLORS).convert(mode)
    image.putalpha(128)
    colors = np.asarray(image)[..., :-1]
    managed = p3_in_srgb(colors) if mode == "RGBA" else encoded((colors / 255) ** 1.8).repeat(3, axis=2)
    for background in ((255, 255, 255), (10, 200, 30)):
        spec = PixelSpec(8, 8, background=background, color_management="srgb")
        expected = (managed * 128 + np.array(background) * 127) / 255
        assert np.abs(shown(saved(image, icc_profile=icc), spec) - expected).max() <= 1.5


@pytest.mark.parametrize("options", [{"format": "TIFF"}, {"format": "JPEG", "quality": 100}])
def test_inks_go_through_their_profile(options: dict[str, Any]) -> None:
    icc = table_profile(b"CMYK", inks_light)
    inks = np.array(
        [[0, 0, 0, 0], [255, 0, 0, 0], [0, 255, 0, 0], [0, 0, 255, 0], [255, 255, 0, 0]], dtype=np.uint8
    )
    image = Image.fromarray(np.repeat(np.repeat(inks[:, np.newaxis], 16, axis=0), 16, axis=1), "CMYK")
    data = saved(image, icc_profile=icc, **options)
    light = inks_light(inks / 255)
    # Paper is white by the perceptual intent, and the black of these inks is black.
    expected = encoded(light)
    found = shown(data).reshape(5, 16, 16, 3)[:, 4:12, 4:12].mean(axis=(1, 2))
    assert np.abs(found - expected).max() <= 4
    plain = shown(data, STORED).reshape(5, 16, 16, 3)[:, 8, 8]
    assert np.abs(plain - [[255, 255, 255], [0, 255, 255], [255, 0, 255], [255, 255, 0], [0, 0, 255]]).max() <= 4
    if options["format"] == "TIFF":
        np.testing.assert_array_equal(shown(data), by_pillow(image, icc))


LAB = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
BROKEN = {
    "noise": (bytes(range(200)), r"is damaged \(cannot open profile"),
    "cut short": (P3[:200], "is damaged"),
    "without a curve": (profile(b"RGB ", {}), r"is damaged \(cannot build transform"),
    "of another space": (LAB, r"is for Lab colours \(abst\), and its pixels are RGB"),
    "of inks": (table_profile(b"CMYK", inks_light), r"is for CMYK colours \(prtr\), and its pixels are RGB"),
    "of grey": (grey_profile(2.2), r"is for GRAY colours \(mntr\), and its pixels are RGB"),
    "a link between devices": (profile(b"RGB ", {}, device=b"link", pcs=b"RGB "), r"is for RGB colours \(link\)"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_profile_that_does_not_fit_is_named(name: str) -> None:
    icc, reason = BROKEN[name]
    data = saved(Image.fromarray(COLORS), icc_profile=icc)
    with pytest.raises(PictureError, match=f"the picture's colour profile {reason}.*: save it anew in sRGB"):
        decode_rgb(data, MANAGED)
    np.testing.assert_array_equal(shown(data, STORED), COLORS)


def test_a_profile_of_which_parts_are_missing() -> None:
    data = saved(Image.new("RGB", (8, 8)), format="JPEG", icc_profile=bytes(150_000))
    second = data.index(b"ICC_PROFILE\0", data.index(b"ICC_PROFILE\0") + 1)
    torn = data[:second] + b"X" + data[second + 1 :]
    with pytest.raises(PictureError, match="colour profile is cut short"):
        decode_rgb(torn, MANAGED)
    assert decode_rgb(torn, STORED).size == (8, 8)


def test_without_littlecms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(color_profiles.features, "check", lambda name: name != "littlecms2")
    color_profiles.conversion.cache_clear()
    with pytest.raises(PictureError, match="this Pillow was built without LittleCMS: install Pillow's own wheel"):
        decode_rgb(saved(Image.fromarray(COLORS), icc_profile=P3), MANAGED)
    assert decode_rgb(saved(Image.fromarray(COLORS)), MANAGED).size == (18, 12)


def test_what_says_colours_otherwise_is_not_read() -> None:
    """As docs/inputs.md says: gAMA in a PNG changes nothing."""
    data = png((1, 1), 8, 2, b"\0\x80\x80\x80")
    gamma = data.index(b"IDAT") - 4
    chunk = b"\0\0\0\4gAMA\0\1\x86\xa0" + (0x31E8965F).to_bytes(4, "big")
    assert shown(data[:gamma] + chunk + data[gamma:]).ravel().tolist() == [128, 128, 128]


def test_threads_share_a_conversion() -> None:
    data = saved(Image.fromarray(COLORS.repeat(20, axis=0)), icc_profile=P3)
    color_profiles.conversion.cache_clear()
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(load_pixels, [data] * 32, [MANAGED] * 32))
    assert all((result == results[0]).all() for result in results)
    assert not (results[0] == load_pixels(data, STORED)).all()


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(max_examples=200, deadline=None)
@given(changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=6))
def test_damaged_profiles_give_a_picture_or_one_line(changes: list[tuple[int, int]]) -> None:
    icc = bytearray(DAMAGEABLE)
    for place, value in changes:
        icc[place % len(icc)] = value
    try:
        result = load_pixels(saved(Image.fromarray(COLORS), icc_profile=bytes(icc)), MANAGED).shape
    except PictureError as error:
        result = str(error)
    assert result == (8, 8, 3) or (isinstance(result, str) and "\n" not in result)


DAMAGEABLE = table_profile(b"RGB ", swapped)


def test_an_unknown_way_is_refused() -> None:
    with pytest.raises(ValueError, match="color_management='p3': must be of"):
        PixelSpec(8, 8, color_management="p3")  # type: ignore[arg-type]


def test_the_references_here_agree_with_themselves() -> None:
    np.testing.assert_allclose(encoded(linear(COLORS)), COLORS, atol=1e-3)
    np.testing.assert_allclose(SRGB.sum(axis=1), D50, atol=2e-3)
    np.testing.assert_allclose(DISPLAY_P3.sum(axis=1), D50, atol=2e-3)


def bmp_with_profile(colors: np.ndarray, icc: bytes, marker: bytes = b"DEBM") -> bytes:
    """A BMP of 24 bits with a V5 header, whose profile stands behind the pixels."""
    height, width = colors.shape[:2]
    rows = b"".join(row[:, ::-1].tobytes() + bytes(-3 * width % 4) for row in colors[::-1])
    fields = struct.pack("<IiiHHIIiiII", 124, width, height, 1, 24, 0, len(rows), 0, 0, 0, 0)
    header = fields + bytes(16) + marker + bytes(48) + struct.pack("<4I", 4, 124 + len(rows), len(icc), 0)
    return struct.pack("<2sIHHI", b"BM", 138 + len(rows) + len(icc), 0, 0, 138) + header + rows + icc


def test_the_profile_of_a_bmp() -> None:
    data = bmp_with_profile(COLORS, P3)
    assert np.abs(shown(data) - p3_in_srgb(COLORS)).max() <= 2
    np.testing.assert_array_equal(shown(data, STORED), COLORS)
    np.testing.assert_array_equal(shown(bmp_with_profile(COLORS, P3, b"BGRs")), COLORS)
    with pytest.raises(PictureError, match="the picture's colour profile is cut short"):
        decode_rgb(data[:-9], MANAGED)


def test_a_profile_that_pillow_reads_of_no_png() -> None:
    data = saved(Image.fromarray(COLORS), icc_profile=P3 + bytes(2**20))
    with pytest.raises(PictureError, match="a PNG with more than 1 MiB of text, or of a colour profile"):
        decode_rgb(data, STORED)
