"""Pictures and texts to send, where nobody gives any; and broken pictures."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

MADE_UP_TEXTS = (
    "red shoes",
    "a photo of a cat on a sofa",
    "two people walk along a beach in the evening",
    "blue ceramic mug",
    "an icon of a paper plane",
    "snow on the roofs of a small town, seen from above",
    "wooden chair with a green cushion",
    "a yellow tram crosses a bridge over the river while a cyclist waits at the light",
)
_SIZES = ((640, 480), (480, 640), (800, 600), (512, 512), (1024, 683), (320, 240))


@dataclass(frozen=True)
class Inputs:
    """What is sent, as the bytes that a transport takes.

    Attributes:
        images_from, texts_from: where they are from, for the report.
    """

    images: tuple[bytes, ...]
    texts: tuple[bytes, ...]
    images_from: str
    texts_from: str


def made_up_images() -> tuple[bytes, ...]:
    """Six JPEGs from 320 × 240 to 1024 × 683 pixels: coarse colour fields with noise. The same ones every time."""
    rng = np.random.default_rng(0)
    return tuple(_jpeg(width, height, rng) for width, height in _SIZES)


def made_up_texts() -> tuple[bytes, ...]:
    """The bytes of MADE_UP_TEXTS."""
    return tuple(text.encode() for text in MADE_UP_TEXTS)


def broken_images() -> tuple[bytes, ...]:
    """What a server has to refuse: half a PNG, a page instead of a picture, and bytes without a meaning."""
    stream = io.BytesIO()
    pixels = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, format="PNG")
    png = stream.getvalue()
    return png[: len(png) // 2], b"<!DOCTYPE html><title>Not found</title>", bytes(range(1, 200))


def _jpeg(width: int, height: int, rng: np.random.Generator) -> bytes:
    fields = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    pixels = np.asarray(fields.resize((width, height), Image.Resampling.BICUBIC), dtype=np.int16)
    noisy = np.clip(pixels + rng.integers(-12, 13, pixels.shape), 0, 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noisy).save(stream, format="JPEG", quality=85)
    return stream.getvalue()
