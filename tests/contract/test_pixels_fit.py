"""Resizing against open_clip's own evaluation transform."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import PIL
import pytest
from PIL import Image

from protoclip.contract.pixels import PictureError, PixelSpec, fit, load_pixels
from protoclip.encoders.torchvision_workaround import make_torchvision_importable

SIZES = [
    (1, 1),
    (7, 5),
    (32, 32),
    (33, 32),
    (50, 50),
    (223, 100),
    (64, 48),
    (48, 64),
    (481, 641),
    (1001, 17),
    (6000, 3),
]
TARGETS = [32, 33, (32, 48), (48, 31)]
MODES = ["shortest", "longest", "squash"]
FILL = 37


@pytest.fixture(scope="module")
def transforms() -> Any:
    make_torchvision_importable()
    from open_clip import transform

    return transform


def noise(width: int, height: int) -> Image.Image:
    generator = np.random.default_rng(width * 10_000 + height)
    return Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))


def spec_of(target: int | tuple[int, int], mode: str, interpolation: str = "bicubic") -> PixelSpec:
    height, width = (target, target) if isinstance(target, int) else target
    return PixelSpec(height, width, mode, interpolation, fill=(FILL,) * 3)


def open_clip_pixels(
    transforms: Any, image: Image.Image, target: Any, mode: str, interpolation: str
) -> np.ndarray:
    config = transforms.PreprocessCfg(size=target, resize_mode=mode, interpolation=interpolation, fill_color=FILL)
    for step in transforms.image_transform_v2(config, is_train=False).transforms[:-2]:
        image = step(image)
    return np.asarray(image)


def pillow_swaps_passes(image: Image.Image, spec: PixelSpec) -> bool:
    """Whether Pillow may resize vertically first, which rounds otherwise; since version 13."""
    width, height = (spec.width, spec.height)
    if spec.resize == "longest":
        scale = max(image.width / width, image.height / height)
        width, height = round(image.width / scale), round(image.height / scale)
    recent = int(PIL.__version__.split(".")[0]) >= 13
    return recent and spec.resize != "shortest" and image.height / height > image.width / width


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_equal_to_open_clip(transforms: Any, target: Any, mode: str, interpolation: str) -> None:
    compared = 0
    for size in SIZES:
        image, spec = noise(*size), spec_of(target, mode, interpolation)
        if (size == (6000, 3) and mode == "longest") or pillow_swaps_passes(image, spec):
            continue
        expected = open_clip_pixels(transforms, image, target, mode, interpolation)
        np.testing.assert_array_equal(fit(image, spec), expected, err_msg=str(size))
        compared += 1
    assert compared >= 3


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [(48, 64), (100, 223), (17, 1001)])
def test_tall_pictures_are_squashed_across_before_down(transforms: Any, size: Any, interpolation: str) -> None:
    image = noise(*size)
    across = open_clip_pixels(transforms, image, (size[1], 32), "squash", interpolation)
    expected = open_clip_pixels(transforms, Image.fromarray(across), (32, 32), "squash", interpolation)
    np.testing.assert_array_equal(fit(image, spec_of(32, "squash", interpolation)), expected)


def test_a_line_keeps_one_pixel_where_open_clip_fails(transforms: Any) -> None:
    with pytest.raises(ValueError, match="> 0"):
        open_clip_pixels(transforms, noise(6000, 3), 32, "longest", "bicubic")
    result = fit(Image.new("RGB", (6000, 3), (200, 100, 50)), spec_of(32, "longest"))
    assert [tuple(row[0]) for row in result].count((200, 100, 50)) == 1
    assert [tuple(row[0]) for row in result].count((FILL,) * 3) == 31


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("target", [32, (32, 48)], ids=str)
def test_centre_alone_equals_the_centre_of_all(
    monkeypatch: pytest.MonkeyPatch, target: Any, interpolation: str
) -> None:
    for size in SIZES:
        image, spec = noise(*size), spec_of(target, "shortest", interpolation)
        whole = fit(image, spec).astype(int)
        with monkeypatch.context() as patch:
            patch.setattr("protoclip.contract.resizing._MAX_RESIZED_PIXELS", 0)
            difference = np.abs(fit(image, spec) - whole)
        assert difference.max() <= 1, size
        assert (difference > 0).mean() < 0.01, size


@pytest.mark.parametrize("size", [(6000, 3), (3, 6000), (1_000_000, 1), (1, 1_000_000)])
@pytest.mark.parametrize("mode", MODES)
def test_lines_take_little_memory(size: tuple[int, int], mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # at 224 pixels the whole of the last two would be 50 gigapixels
    resize, resized = Image.Image.resize, []

    def record(image: Image.Image, size: tuple[int, int], *rest: Any, **named: Any) -> Image.Image:
        resized.append(size[0] * size[1])
        return resize(image, size, *rest, **named)

    monkeypatch.setattr(Image.Image, "resize", record)
    image = Image.new("RGB", size, (10, 20, 30))
    result = fit(image, PixelSpec(224, 224, mode, fill=(10, 20, 30)))
    assert (result == (10, 20, 30)).all()
    assert max(resized) <= 16_000_000


@pytest.mark.parametrize(("mode", "size"), list(itertools.product(MODES, [(1, 1), (640, 480), (100, 300)])))
def test_constant_colour_stays(mode: str, size: tuple[int, int]) -> None:
    result = fit(Image.new("RGB", size, (10, 20, 30)), PixelSpec(24, 40, mode, fill=(10, 20, 30)))
    assert result.shape == (24, 40, 3)
    assert result.dtype == np.uint8
    assert result.flags["C_CONTIGUOUS"]
    assert result.flags["WRITEABLE"]
    assert (result == (10, 20, 30)).all()


def test_padding_is_centred_and_has_its_colour() -> None:
    result = fit(Image.new("RGB", (100, 50), "white"), PixelSpec(21, 20, "longest", fill=(1, 2, 3)))
    assert (result[5:15] == 255).all()
    assert (result[:5] == (1, 2, 3)).all()
    assert (result[15:] == (1, 2, 3)).all()


def test_nearest_takes_no_mixed_colours() -> None:
    board = np.zeros((100, 100, 3), dtype=np.uint8)
    board[::2, ::2] = 255
    result = fit(Image.fromarray(board), PixelSpec(33, 33, interpolation="nearest"))
    assert set(np.unique(result)) == {0, 255}


def test_other_modes_become_rgb_first() -> None:
    half = Image.new("RGBA", (9, 9), (255, 0, 0, 128))
    assert (fit(half, PixelSpec(4, 4)) == (255, 127, 127)).all()
    with pytest.raises(PictureError, match="mode F"):
        fit(Image.new("F", (4, 4)), PixelSpec(4, 4))
    with pytest.raises(PictureError, match="0 bytes"):
        load_pixels(b"", PixelSpec(4, 4))
