"""PIL images with a colour profile: what arrives is what the file with the same pixels and profile would be."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from icc_profiles import DISPLAY_P3, grey_profile, matrix_profile, table_profile
from PIL import Image

from protoclip.client.inputs import image_bytes
from protoclip.contract.pixels import PixelSpec, decode_rgb

P3 = matrix_profile(DISPLAY_P3)
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 5, 4), dtype=np.uint8)
INKS = table_profile(b"CMYK", lambda inks: (1 - inks[:, :3]) * (1 - 0.5 * inks[:, 3:]))


def with_profile(image: Image.Image, icc: bytes) -> Image.Image:
    image.info["icc_profile"] = icc
    return image


GREY_16 = (PIXELS[..., 0].astype(np.uint16) * 257).astype(np.uint16)
CASES: dict[str, tuple[Image.Image, Image.Image, str]] = {
    "RGB": (with_profile(Image.fromarray(PIXELS[..., :3]), P3), Image.fromarray(PIXELS[..., :3]), "PNG"),
    "RGBA": (with_profile(Image.fromarray(PIXELS), P3), Image.fromarray(PIXELS), "PNG"),
    "L": (
        with_profile(Image.fromarray(PIXELS[..., 0]), grey_profile(1.8)),
        Image.fromarray(PIXELS[..., 0]),
        "PNG",
    ),
    "I;16": (with_profile(Image.fromarray(GREY_16), grey_profile(1.8)), Image.fromarray(PIXELS[..., 0]), "PNG"),
    "I": (
        with_profile(Image.fromarray(GREY_16.astype(np.int32)), grey_profile(1.8)),
        Image.fromarray(PIXELS[..., 0]),
        "PNG",
    ),
    "CMYK": (with_profile(Image.fromarray(PIXELS, "CMYK"), INKS), Image.fromarray(PIXELS, "CMYK"), "TIFF"),
}


@pytest.mark.parametrize("way", ["srgb", "stored"])
@pytest.mark.parametrize("mode", CASES)
def test_a_profile_goes_with_its_pixels(mode: str, way: Any) -> None:
    image, plain, file_format = CASES[mode]
    assert image.mode == mode
    spec = PixelSpec(8, 8, color_management=way)
    stream = io.BytesIO()
    plain.save(stream, file_format, icc_profile=image.info["icc_profile"])
    expected = np.asarray(decode_rgb(stream.getvalue(), spec))
    np.testing.assert_array_equal(np.asarray(decode_rgb(image_bytes(image), spec)), expected)


@pytest.mark.parametrize("mode", CASES)
def test_the_profiles_of_these_cases_change_something(mode: str) -> None:
    sent = image_bytes(CASES[mode][0])
    managed, stored = (decode_rgb(sent, PixelSpec(8, 8, color_management=way)) for way in ("srgb", "stored"))
    assert np.abs(np.asarray(managed).astype(int) - np.asarray(stored)).max() > 5
