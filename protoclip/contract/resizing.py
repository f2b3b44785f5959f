"""RGB images to a target size (width, height), equal to open_clip's evaluation transforms; see `pixels.fit`.

This file needs Pillow only: the Triton preprocessing model carries a copy of it, beside `pixels.py`.
"""

from __future__ import annotations

from math import ceil

from PIL import Image

RESAMPLING = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "nearest": Image.Resampling.NEAREST,
}
_MAX_RESIZED_PIXELS = 16_000_000


def resize(image: Image.Image, size: tuple[int, int], interpolation: str) -> Image.Image:
    """The image in `size` (width, height), proportions not kept; the same pixels with every version of Pillow."""
    # Pillow rounds between the two passes, and since 13 takes the vertical one first where the height
    # shrinks more than the width: called one by one, they give the same pixels with every version
    method = RESAMPLING[interpolation]
    between = (size[0], image.height)
    if between[0] * between[1] > _MAX_RESIZED_PIXELS:
        between = (image.width, size[1])
    return image.resize(between, method).resize(size, method)


def fit_inside(
    image: Image.Image, target: tuple[int, int], interpolation: str, fill: tuple[int, int, int]
) -> Image.Image:
    """The whole image in the middle of `target`, with borders of the colour `fill`."""
    ratio = max(image.height / target[1], image.width / target[0])
    width, height = max(1, round(image.width / ratio)), max(1, round(image.height / ratio))
    resized = resize(image, (width, height), interpolation)
    canvas = Image.new("RGB", target, fill)
    canvas.paste(resized, ((target[0] - width) // 2, (target[1] - height) // 2))
    return canvas


def fill_and_crop(image: Image.Image, target: tuple[int, int], interpolation: str) -> Image.Image:
    """The centre crop of the image resized so that its shortest side fits `target`."""
    (width, height), (left, top) = filled_and_cropped(image.size, target)
    if target[0] != target[1]:
        # open_clip passes no interpolation to the transform that it uses for targets that aren't square
        interpolation = "bicubic"
    if width * height > _MAX_RESIZED_PIXELS:
        return _resize_centre(image, (width, height), (left, top), target, interpolation)
    resized = resize(image, (width, height), interpolation)
    return resized.crop((left, top, left + target[0], top + target[1]))


def filled_and_cropped(size: tuple[int, int], target: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """What size an image gets whose shortest side fits `target`, and where its crop begins: left, top."""
    if target[0] == target[1]:
        short = min(size)
        width, height = (int(target[0] * side / short) for side in size)
    else:
        ratio = min(size[1] / target[1], size[0] / target[0])
        width, height = round(size[0] / ratio), round(size[1] / ratio)
    return (width, height), (round((width - target[0]) / 2), round((height - target[1]) / 2))


def _resize_centre(
    image: Image.Image,
    full: tuple[int, int],
    corner: tuple[int, int],
    target: tuple[int, int],
    interpolation: str,
) -> Image.Image:
    """The crop of size `target` at `corner` of the image resized to `full`, computed without the rest."""
    # Pillow keeps the box in single precision, which is exact enough relative to a small region
    region, box = [], []
    for size, resized, start, length in zip(image.size, full, corner, target, strict=True):
        scale = size / resized
        margin = 2 * ceil(max(scale, 1.0)) + 2
        first = max(0, int(start * scale) - margin)
        region.append((first, min(size, ceil((start + length) * scale) + margin)))
        box.append((start * scale - first, min((start + length) * scale, size) - first))
    piece = image.crop((region[0][0], region[1][0], region[0][1], region[1][1]))
    method = RESAMPLING[interpolation]
    piece = piece.resize((target[0], piece.height), method, box=(box[0][0], 0, box[0][1], piece.height))
    return piece.resize(target, method, box=(0, box[1][0], target[0], box[1][1]))
