from __future__ import annotations

import colorsys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from protoclip.config.schema import AugmentationConfig
from protoclip.data.augmentation import NUM_COLOUR_DRAWS, colour_augment, draw_crop

PLAIN = AugmentationConfig(crop_scale=(1, 1), crop_ratio=(1, 1), flip=0, jitter=0, grey=0, blur=0)
unit = st.floats(0, 1, exclude_max=True)


def always(**probabilities: float) -> AugmentationConfig:
    return PLAIN.model_copy(update=probabilities)


def pictures(count: int, size: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


@given(draws=st.lists(unit, min_size=4, max_size=4), width=st.integers(1, 900), height=st.integers(1, 900))
@settings(max_examples=200, deadline=None)
def test_a_crop_lies_in_the_picture_and_has_the_area(draws: list[float], width: int, height: int) -> None:
    left, top, right, bottom = draw_crop(draws, width, height, AugmentationConfig()).box
    assert 0 <= left < right <= width + 1e-6
    assert 0 <= top < bottom <= height + 1e-6
    area = (right - left) * (bottom - top) / (width * height)
    assert area <= 1 + 1e-9
    if 1.4 > width / height > 0.72:
        assert area >= 0.5 * 0.7


def test_the_whole_picture_where_nothing_is_cropped() -> None:
    crop = draw_crop([0.3, 0.9, 0.5, 0.5], 40, 40, PLAIN)
    assert crop.box == pytest.approx((0, 0, 40, 40))
    assert not crop.mirror


def test_half_are_mirrored_and_the_place_does_not_tell_which() -> None:
    draws = np.random.default_rng(0).random((4000, 4)).tolist()
    crops = [draw_crop(row, 100, 100, AugmentationConfig(crop_scale=(0.25, 0.25))) for row in draws]
    mirrored = np.array([crop.mirror for crop in crops])
    left = np.array([crop.box[0] for crop in crops])
    assert abs(mirrored.mean() - 0.5) < 0.03
    assert abs(left[mirrored].mean() - left[~mirrored].mean()) < 2


def test_without_chances_nothing_changes() -> None:
    x = pictures(5)
    assert torch.equal(colour_augment(x, torch.rand(5, NUM_COLOUR_DRAWS), PLAIN), x)


def test_only_the_rows_that_drew_it_change() -> None:
    x, draws = pictures(4), torch.full((4, NUM_COLOUR_DRAWS), 0.9)
    draws[2, 1] = 0.1
    out = colour_augment(x, draws, always(grey=0.5))
    assert [torch.equal(out[i], x[i]) for i in range(4)] == [True, True, False, True]
    assert torch.equal(out[2, 0], out[2, 1])


def test_grey_is_the_luma_of_rec_601() -> None:
    x = pictures(2)
    out = colour_augment(x, torch.zeros(2, NUM_COLOUR_DRAWS), always(grey=1))
    expected = 0.299 * x[:, 0] + 0.587 * x[:, 1] + 0.114 * x[:, 2]
    np.testing.assert_allclose(out[:, 1], expected, atol=1e-6)


def test_jitter_of_neutral_draws_changes_nothing() -> None:
    """Draws of one half are factors of 1 and a turn of 0."""
    x, draws = pictures(3), torch.full((3, NUM_COLOUR_DRAWS), 0.5)
    draws[:, 0] = 0
    config = always(jitter=1).model_copy(update={"jitter_strength": (0.8, 0.8, 0.8, 0.2)})
    np.testing.assert_allclose(colour_augment(x, draws, config), x, atol=1e-5)


def test_brightness_scales() -> None:
    x, draws = pictures(1) * 0.4, torch.full((1, NUM_COLOUR_DRAWS), 0.5)
    draws[:, 0], draws[:, 3] = 0, 0.75
    config = always(jitter=1).model_copy(update={"jitter_strength": (0.8, 0.0, 0.0, 0.0)})
    np.testing.assert_allclose(colour_augment(x, draws, config), x * 1.4, atol=1e-6)


def test_a_third_of_a_turn_takes_red_towards_green() -> None:
    x = torch.tensor([0.7, 0.3, 0.3]).view(1, 3, 1, 1).expand(1, 3, 4, 4).contiguous()
    draws = torch.full((1, NUM_COLOUR_DRAWS), 0.5)
    draws[:, 0], draws[:, 6] = 0, 0.0
    config = always(jitter=1).model_copy(update={"jitter_strength": (0.0, 0.0, 0.0, 1 / 3)})
    red, green, blue = colour_augment(x, draws, config)[0, :, 0, 0].tolist()
    hue = colorsys.rgb_to_hsv(red, green, blue)[0]
    assert min(abs(hue - 1 / 3), abs(hue - 2 / 3)) < 0.06
    assert 0.299 * red + 0.587 * green + 0.114 * blue == pytest.approx(0.299 * 0.7 + 0.701 * 0.3, abs=0.01)


def test_blur_is_pillows_gaussian() -> None:
    noise = (pictures(1, size=32)[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    x = torch.from_numpy(noise).permute(2, 0, 1)[None] / 255
    draws = torch.full((1, NUM_COLOUR_DRAWS), 0.5)
    config = always(blur=1).model_copy(update={"blur_sigma": (1.5, 1.5)})
    ours = colour_augment(x, draws, config)[0].permute(1, 2, 0).numpy() * 255
    theirs = np.asarray(Image.fromarray(noise).filter(ImageFilter.GaussianBlur(1.5)), dtype=np.float64)
    # Pillow approximates by box blurs; away from the border both agree to a few levels of noise of 74.
    assert np.abs(ours - theirs)[6:-6, 6:-6].mean() < 2
    flat = torch.full((1, 3, 32, 32), 0.3)
    np.testing.assert_allclose(colour_augment(flat, draws, config), flat, atol=1e-6)
