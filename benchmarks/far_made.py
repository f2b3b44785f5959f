"""Strangers that are computed: textures and noise, as PNG of 64 × 64."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZE = 64
Pixels = NDArray[np.floating]


def textures(draw: np.random.Generator, count: int) -> list[bytes]:
    """Gratings, chequerboards, rings and smooth blobs, each of two colours."""
    return [encoded(_texture(draw)) for _ in range(count)]


def noise(draw: np.random.Generator, count: int) -> list[bytes]:
    """Each pixel for itself, grey or coloured, evenly or normally distributed."""
    return [encoded(_noise(draw)) for _ in range(count)]


def encoded(pixels: Pixels) -> bytes:
    """`[H, W, 3]`, 0 to 255, as a PNG."""
    stream = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def _texture(draw: np.random.Generator) -> Pixels:
    y, x = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    angle, rate, phase = draw.uniform(0, np.pi), draw.uniform(2, 12), draw.uniform(0, 2 * np.pi)
    along = x * np.cos(angle) + y * np.sin(angle)
    across = y * np.cos(angle) - x * np.sin(angle)
    kind = draw.integers(4)
    if kind == 0:
        wave = np.sin(2 * np.pi * rate * along + phase)
    elif kind == 1:
        wave = np.sign(np.sin(2 * np.pi * rate * along + phase) * np.sin(2 * np.pi * rate * across + phase))
    elif kind == 2:
        wave = np.sin(2 * np.pi * rate * np.hypot(x - draw.random(), y - draw.random()) + phase)
    else:
        coarse = draw.normal(size=(int(rate) + 2, int(rate) + 2))
        wave = np.asarray(
            Image.fromarray(coarse.astype(np.float32)).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
        )
        wave = np.tanh(wave)
    share = (wave[..., None] + 1) / 2
    first, second = draw.random((2, 3))
    return 255 * (share * first + (1 - share) * second)


def _noise(draw: np.random.Generator) -> Pixels:
    shape = (SIZE, SIZE, 3 if draw.random() < 0.5 else 1)
    pixels = 255 * draw.random(shape) if draw.random() < 0.5 else draw.normal(128, draw.uniform(20, 64), shape)
    return np.broadcast_to(pixels, (SIZE, SIZE, 3))
