"""Alignment and uniformity against loops over the papers' equations."""

from __future__ import annotations

import math

import numpy as np
import pytest

from protoclip.evaluation.gap import alignment, modality_gap, uniformity


def unit(rng: np.random.Generator, rows: int, dim: int) -> np.ndarray:
    vectors = rng.normal(size=(rows, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_uniformity_equals_the_loop_over_pairs() -> None:
    vectors = unit(np.random.default_rng(0), 40, 5)
    terms = [
        math.exp(-2 * float(((x.astype(float) - y.astype(float)) ** 2).sum()))
        for i, x in enumerate(vectors)
        for j, y in enumerate(vectors)
        if i != j
    ]
    expected = math.log(sum(terms) / len(terms))
    for chunk in (1, 7, 1000):
        assert uniformity(vectors, chunk) == pytest.approx(expected, abs=1e-5)


def test_alignment_and_gap_equal_their_definitions() -> None:
    rng = np.random.default_rng(1)
    images, texts = unit(rng, 30, 6), unit(rng, 30, 6)
    distances = [
        sum((float(a) - float(b)) ** 2 for a, b in zip(x, y, strict=True))
        for x, y in zip(images, texts, strict=True)
    ]
    assert alignment(images, texts) == pytest.approx(sum(distances) / 30, abs=1e-6)
    means = [sum(float(v) for v in side[:, d]) / 30 for side in (images, texts) for d in range(6)]
    expected = math.sqrt(sum((means[d] - means[6 + d]) ** 2 for d in range(6)))
    assert modality_gap(images, texts) == pytest.approx(expected, abs=1e-6)
