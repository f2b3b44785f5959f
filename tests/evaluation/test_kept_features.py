"""Embeddings that an earlier evaluation made: taken where nothing has changed, and made again elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from protoclip.encoders.model import ClipModel
from protoclip.evaluation.features import ImageFeatures, TorchModel, Vectors
from protoclip.evaluation.kept_features import KeptFeatures
from protoclip.sources import Pairs


class Counting(TorchModel):
    """Counts the pictures that it embeds."""

    count = 0

    def embed_pixels(self, pixels: Any) -> Vectors:
        self.count += len(pixels)
        return super().embed_pixels(pixels)


def extract(model: TorchModel, pairs: Pairs, folder: Path) -> ImageFeatures:
    return KeptFeatures(folder).extract(model, pairs, batch_size=7, on_batch=lambda count: None)


@pytest.fixture
def some(painted_pairs: Pairs) -> Pairs:
    return painted_pairs.select(np.arange(12))


def test_a_second_call_embeds_nothing(painted_clip: Callable[..., ClipModel], some: Pairs, tmp_path: Path) -> None:
    broken = replace(some, images=[*[some.read_image(row) for row in range(11)], b"no picture"])
    first, second = Counting(painted_clip()), Counting(painted_clip())
    made, read = extract(first, broken, tmp_path), extract(second, broken, tmp_path)
    assert (first.count, second.count) == (11, 0)
    assert np.array_equal(made.vectors, read.vectors)
    assert np.array_equal(made.rows, read.rows)
    assert made.skipped == read.skipped
    assert made.skipped[0][0] == 11


def test_whatever_has_changed_is_embedded_again(
    painted_clip: Callable[..., ClipModel], some: Pairs, tmp_path: Path
) -> None:
    extract(TorchModel(painted_clip()), some, tmp_path)
    pictures = [some.read_image(row) for row in range(12)]
    changed = painted_clip()
    with torch.no_grad():
        next(changed.module.parameters())[0, 0] += 1e-3
    smaller = replace(painted_clip(), pixels=replace(painted_clip().pixels, interpolation="bilinear"))
    for clip, pairs in (
        (changed, some),
        (smaller, some),
        (painted_clip(), some.select(np.arange(12)[::-1])),
        (painted_clip(), some.select(np.arange(11))),
        (painted_clip(), replace(some, images=[*pictures[:5], pictures[0], *pictures[6:]])),
    ):
        model = Counting(clip)
        extract(model, pairs, tmp_path)
        assert model.count == len(pairs)
    # Texts and columns have no part in it.
    model = Counting(painted_clip())
    extract(model, replace(some, texts=(("other",),) * 12), tmp_path)
    assert model.count == 0


def test_a_damaged_file_is_made_again(
    painted_clip: Callable[..., ClipModel], some: Pairs, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = extract(TorchModel(painted_clip()), some, tmp_path)
    (file,) = tmp_path.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:50])
    model = Counting(painted_clip())
    assert np.array_equal(extract(model, some, tmp_path).vectors, made.vectors)
    assert model.count == 12
    assert "is damaged, and made again" in caplog.text


def test_old_tables_are_removed(painted_clip: Callable[..., ClipModel], some: Pairs, tmp_path: Path) -> None:
    for count in range(1, 13):
        for first in (0, 1):
            extract(
                TorchModel(painted_clip()), some.select(np.arange(first, count)), tmp_path
            ) if first < count else None
    assert len(list(tmp_path.glob("*.safetensors"))) == 16
