"""Small encoders as ONNX graphs of every precision, for what TensorRT makes of them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.graphs.encoders import ImageEncoder, TextEncoder, example_pixels, example_tokens
from export.graphs.precision import write_precision
from export.graphs.source import load_source
from export.graphs.to_onnx import IMAGE, TEXT, Signature, write_onnx

ENCODERS: dict[str, tuple[str, Signature]] = {
    "vit": ("tiny-vit", IMAGE),
    "resnet": ("tiny-resnet", IMAGE),
    "text": ("tiny-vit", TEXT),
}


class Graphs:
    """Writes each graph once, when it is asked for. open_clip must know the architectures."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.path = cache(self._path)

    def _path(self, encoder: str, precision: str) -> Path:
        signature = ENCODERS[encoder][1]
        path = self._folder / f"{encoder}_{precision}" / signature.file
        path.parent.mkdir()
        if precision == "fp32":
            model, example = _encoder(encoder)
            write_onnx(model, example, path, signature)
        else:
            write_precision(precision, self.path(encoder, "fp32"), path, signature, inputs(encoder, 16))  # type: ignore[arg-type]
        return path


def inputs(encoder: str, count: int) -> NDArray[Any]:
    """Random pictures or texts, always the same."""
    rng = np.random.default_rng(0)
    if ENCODERS[encoder][1] is IMAGE:
        return rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    return rng.integers(1, 400, (count, 16)).astype(np.int32)


def _encoder(encoder: str) -> tuple[Any, Any]:
    name, signature = ENCODERS[encoder]
    clip = load_source(name).clip
    if signature is IMAGE:
        return ImageEncoder(clip), example_pixels(clip)
    return TextEncoder(clip), example_tokens(clip)
