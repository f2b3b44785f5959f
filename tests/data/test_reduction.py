"""Pictures are decoded and kept as small as the smallest crop allows, at the right place, cached or not."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from picture_bytes import saved
from PIL import Image, ImageFilter

from protoclip.config.schema import AugmentationConfig
from protoclip.contract.pixels import PixelSpec, decode_reduced, decode_rgb
from protoclip.data.pictures import Pictures
from protoclip.data.reduction import MARGINS, CropReduction
from protoclip.sources import Pairs

SPEC = PixelSpec(32, 32)
REDUCTION = CropReduction.of(SPEC, AugmentationConfig())
ORIENTATION = 0x0112
VERDICT = Path(__file__).parents[2] / "benchmarks/scaled_decode_2cores_202611.md"


def pattern(width: int, height: int) -> Image.Image:
    """Smooth, and unlike on all sides."""
    noise = np.random.default_rng(0).integers(0, 256, (height // 16 + 2, width // 16 + 2, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def file_of(image: Image.Image, kind: str, orientation: int = 1) -> bytes:
    exif, stream = Image.Exif(), BytesIO()
    exif[ORIENTATION] = orientation
    image.save(stream, kind, exif=exif, **({"quality": 95} if kind == "JPEG" else {}))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("size", "input_size", "scale", "factor"),
    [
        ((64, 64), 48, (0.6, 1.0), 1),  # the demo's
        ((500, 375), 224, (0.5, 1.0), 1),
        ((1600, 1200), 224, (0.5, 1.0), 2),
        ((1600, 1200), 224, (0.05, 1.0), 1),
        ((4000, 3000), 224, (0.5, 1.0), 4),
        ((4000, 3000), 224, (1.0, 1.0), 4),
        ((6000, 4000), 224, (0.9, 1.0), 8),
        ((6000, 100), 224, (0.9, 1.0), 1),
    ],
)
def test_the_smallest_crop_decides(
    size: tuple[int, int], input_size: int, scale: tuple[float, float], factor: int
) -> None:
    augmentation = AugmentationConfig(crop_scale=scale)
    assert CropReduction.of(PixelSpec(input_size, input_size), augmentation)(*size) == factor


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_crop_of_a_reduced_picture_shows_what_it_shows_of_the_whole(kind: str, orientation: int) -> None:
    """With sides that no factor divides: what is rounded up lies on another side for each orientation."""
    data = file_of(pattern(333, 259), kind, orientation)
    whole, small = decode_rgb(data, SPEC), decode_reduced(data, SPEC, lambda width, height: 4)
    assert (small.width, small.height, small.factor) == (*whole.size, 4)
    assert small.image.size == (-(-whole.width // 4), -(-whole.height // 4))
    width, height = whole.size
    for box in ((0, 0, width / 2, height / 2), (width / 2, height / 2, width, height)):
        ours = small.image.resize((8, 8), Image.Resampling.BICUBIC, box=small.place(box))
        theirs = whole.filter(ImageFilter.BoxBlur(1)).resize((8, 8), Image.Resampling.BICUBIC, box=box)
        assert np.abs(np.asarray(ours, dtype=float) - np.asarray(theirs, dtype=float)).mean() < 1.5


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_kept_picture_is_the_read_one(kind: str) -> None:
    sizes = [(40, 40), (301, 259), (700, 500)]
    pairs = Pairs([file_of(pattern(*size), kind, 6) for size in sizes], (("a",),) * 3, {})
    kept, read = Pictures(pairs, SPEC, 10, REDUCTION), Pictures(pairs, SPEC, 0, REDUCTION)
    assert kept.load_all(lambda items, _: items) == {}
    assert (kept.cached, read.cached) == (True, False)
    factors = []
    for row in range(3):
        ours, theirs = kept.select(np.array([row])).read(0), read.read(row)
        assert np.array_equal(np.asarray(ours.image), np.asarray(theirs.image))
        assert ours.place((3, 4, 30, 31)) == theirs.place((3, 4, 30, 31))
        factors.append(ours.factor)
    assert factors == [1, 2, 4]


def test_more_pictures_fit_reduced() -> None:
    pairs = Pairs([file_of(pattern(1000, 1000), "JPEG")] * 4, (("a",),) * 4, {})
    assert not Pictures(pairs, SPEC, 1).cached
    assert Pictures(pairs, SPEC, 1, REDUCTION).cached


@pytest.mark.parametrize("size", [(1, 600), (600, 1)])
def test_a_jpeg_of_one_line_is_reduced_along_it(size: tuple[int, int]) -> None:
    values = np.broadcast_to(np.linspace(0, 255, 600).reshape(*size[::-1], 1), (*size[::-1], 3))
    data = saved(Image.fromarray(values.astype(np.uint8)), format="JPEG", quality=100, subsampling=0)
    spec = PixelSpec(height=8, width=8)
    found = decode_reduced(data, spec, lambda width, height: 4)
    assert (found.width, found.height) == size
    assert found.image.size == tuple(-(-side // 4) for side in size)
    expected = np.asarray(decode_rgb(data, spec)).reshape(150, 4, 3).mean(axis=1)
    assert np.abs(np.asarray(found.image).reshape(150, 3) - expected).max() <= 1


def test_the_margins_are_those_that_passed() -> None:
    """Each factor has a line with its margin in the committed verdict, which passed the gate that decides."""
    lines = [[cell.strip() for cell in line.split("|")] for line in VERDICT.read_text().splitlines()]
    taken = [cells for cells in lines if len(cells) == 11 and "(taken)" in cells[3]]
    found = {(int(cells[2].removeprefix("1/")), float(cells[3].split()[0])) for cells in taken}
    assert found == {*MARGINS.items(), (1, 1.0)}
    assert {cells[8] for cells in taken} == {"passed"}
