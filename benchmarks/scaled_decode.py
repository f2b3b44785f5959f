"""Embeddings of training's crops from pictures decoded at a part of their size, against whole ones by Pillow.

    python benchmarks/scaled_decode.py runs/demo --result benchmarks/scaled_decode_2cores_202611.md

The pictures are windows of scikit-learn's two photographs, which are laid side by side and mirrored for windows
larger than one, and noise with a photograph's spectrum; as JPEG, quality 90, 4:2:0, of odd sizes. Their smallest
crop has `margin` times the model's input after the reduction. The gate is that of 8-bit engines, with that of half
precision beside it; error to neighbour is a part of the median distance of a crop to the most similar one.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from PIL import Image, features
from sklearn.datasets import load_sample_images

from export.parity.compare import compare
from export.parity.gates import GATES, missed_thresholds
from protoclip.config.schema import AugmentationConfig
from protoclip.contract.pixels import decode_reduced, decode_rgb
from protoclip.data.augmentation import draw_crop
from protoclip.data.crops import resized_crop, whole_box
from protoclip.data.reduction import MARGINS as CHOSEN
from protoclip.encoders.loading import load_clip
from protoclip.encoders.model import ClipModel, encode_images

AUGMENTATION = AugmentationConfig()
ASPECT = 4 / 3
MARGINS = (1.0, 1.25, 1.5, 1.75, 2.0)
FACTORS = (1, 2, 4, 8)
GATE, STRICTER = GATES["int8"], GATES["bf16"]


def wall() -> Image.Image:
    """Both photographs three times in each direction, neighbours mirrored so that no edge is sharp."""
    first, second = (Image.fromarray(array) for array in load_sample_images().images)
    row = np.concatenate([np.asarray(first), np.asarray(second)[:, ::-1], np.asarray(first)[:, ::-1]], axis=1)
    other = np.concatenate([np.asarray(second), np.asarray(first)[:, ::-1], np.asarray(second)], axis=1)
    return Image.fromarray(np.concatenate([row, other[::-1], row[::-1]]))


def noise(width: int, height: int, draws: np.random.Generator) -> Image.Image:
    """Octaves of noise, stronger the coarser, with a slope between a sharp and a soft photograph's."""
    total, slope = np.zeros((height, width, 3), dtype=np.float32), draws.uniform(0.5, 1.1)
    for octave in range(9):
        step = 2**octave
        coarse = draws.normal(size=(3, height // step + 2, width // step + 2)).astype(np.float32)
        channels = [
            np.asarray(Image.fromarray(part).resize((width, height), Image.Resampling.BICUBIC)) for part in coarse
        ]
        total += np.stack(channels, axis=-1) * step**slope
    return Image.fromarray(((total - total.mean()) / total.std() * 50 + 120).clip(0, 255).astype(np.uint8))


def pictures(kind: str, width: int, height: int, count: int, seed: int) -> Iterator[bytes]:
    draws, photographs = np.random.default_rng([seed, width]), wall()
    for _ in range(count):
        if kind == "noise":
            image = noise(width, height, draws)
        else:
            left = int(draws.integers(0, photographs.width - width + 1))
            top = int(draws.integers(0, photographs.height - height + 1))
            image = photographs.crop((left, top, left + width, top + height))
        stream = BytesIO()
        image.save(stream, "JPEG", quality=90, subsampling=2)
        yield stream.getvalue()


def crops(data: bytes, clip: ClipModel, factor: int, draws: list[float]) -> list[NDArray[np.uint8]]:
    """The same part of the picture: of the whole one by Pillow, and as `PairLoader` makes it."""
    spec = clip.pixels
    whole, reduced = decode_rgb(data, spec), decode_reduced(data, spec, lambda width, height: factor)
    drawn = draw_crop(draws, whole.width, whole.height, AUGMENTATION)
    left, top, right, bottom = whole_box(reduced.place(drawn.box), reduced.image.size)
    box = (
        max((left - reduced.left) * factor, 0), max((top - reduced.top) * factor, 0),
        min((right - reduced.left) * factor, whole.width), min((bottom - reduced.top) * factor, whole.height),
    )  # fmt: skip
    by_pillow = whole.resize((spec.width, spec.height), Image.Resampling.BICUBIC, box=box)
    return [np.asarray(by_pillow), resized_crop(reduced, replace(drawn, mirror=False), spec)]


def line(clip: ClipModel, kind: str, factor: int, margin: float, count: int, seed: int) -> str:
    shortest = (
        margin * clip.pixels.width * factor / np.sqrt(AUGMENTATION.crop_scale[0] * AUGMENTATION.crop_ratio[0])
    )
    width, height = (int(np.ceil(shortest * share)) | 1 for share in (ASPECT**0.5, ASPECT**-0.5))
    draws = np.random.default_rng([seed, 1]).random((count, 4)).tolist()
    made = [
        crops(data, clip, factor, own)
        for data, own in zip(pictures(kind, width, height, count, seed), draws, strict=True)
    ]
    with torch.inference_mode():
        whole, scaled = (
            encode_images(clip, torch.from_numpy(np.stack(side))).numpy() for side in zip(*made, strict=True)
        )
    found = compare(whole, scaled)
    mark = " (taken)" if margin == CHOSEN.get(factor, 1.0) else ""
    verdict = " | ".join("failed" if missed_thresholds(found, gate) else "passed" for gate in (GATE, STRICTER))
    return (
        f"| {kind} | 1/{factor} | {margin:g}{mark} | {width} × {height} | {found.min_centred_cosine:.5f} "
        f"| {found.mean_centred_cosine:.5f} | {found.error_to_neighbour:.2f} | {verdict} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a run folder, or another model that was trained")
    parser.add_argument("--count", type=int, default=128, help="pictures a line")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--result", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    clip = load_clip(options.model)
    lines = [
        line(
            clip,
            kind,
            factor,
            margin,
            options.count if kind == "photographs" else options.count // 4,
            options.seed,
        )
        for kind, factors in (("photographs", FACTORS), ("noise", FACTORS[:2]))
        for factor in factors
        for margin in (MARGINS if factor > 1 else MARGINS[:1])
    ]
    taken = [text.split("|") for text in lines if "(taken)" in text]
    verdict = "passes" if all(cells[-3].strip() == "passed" for cells in taken) else "FAILS"
    half = sum(cells[-2].strip() == "passed" for cells in taken)
    version = torch.__version__.partition("+")[0]
    turbo = features.version_feature("libjpeg_turbo")
    low, few = AUGMENTATION.crop_scale[0], options.count // 4
    needed, limit = GATE.min_centred_cosine, GATE.max_error_to_neighbour
    of_half = f"{STRICTER.min_centred_cosine}, {STRICTER.max_error_to_neighbour}"
    page = f"""# JPEGs decoded at a part of their size, and resized by torch: embeddings of crops
`python benchmarks/scaled_decode.py runs/demo` on {clip.model_name}, {clip.pixels.width} px; crops of
{low:g} to 1 of the area; {options.count} photographs or {few} pictures of noise a line,
seed {options.seed}; Pillow {PIL.__version__}, libjpeg-turbo {turbo}, torch {version}.
Compared with the same part of the whole picture, resized by Pillow.

What training takes **{verdict}** the gate that decides, that of 8-bit engines (smallest centred cosine ≥ {needed},
error to neighbour ≤ {limit}), in every line. That of half precision ({of_half}) is shown beside it and is not
claimed: {half} of {len(taken)} lines pass it with this seed. For evaluation, export and serving nothing is
reduced.

| pictures | decoded at | margin | size | smallest centred cosine | mean | error to neighbour | 8 bits | half |
|---|---|---|---|---|---|---|---|---|
"""
    page += "\n".join(lines) + "\n"
    print(page)
    if options.result is not None:
        options.result.write_text(page)


if __name__ == "__main__":
    main()
