"""Retrieval against loops that read like the definition."""

from __future__ import annotations

import numpy as np
import pytest

from protoclip.evaluation.retrieval import image_to_text_ranks, recall_at, text_to_image_ranks


def unit(rng: np.random.Generator, rows: int, dim: int) -> np.ndarray:
    vectors = rng.normal(size=(rows, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def loop_image_recall(images: np.ndarray, texts: np.ndarray, owners: np.ndarray, k: int) -> float:
    found = 0
    for image, owner in zip(images, owners, strict=True):
        order = sorted(range(len(texts)), key=lambda text: -float(image @ texts[text]))
        found += owner in order[:k]
    return found / len(images)


def loop_text_recall(images: np.ndarray, texts: np.ndarray, owners: np.ndarray, k: int) -> float:
    found, asked = 0, 0
    for text in range(len(texts)):
        own = {image for image in range(len(images)) if owners[image] == text}
        if own:
            order = sorted(range(len(images)), key=lambda image: -float(images[image] @ texts[text]))
            found += bool(own & set(order[:k]))
            asked += 1
    return found / asked


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_both_directions_equal_the_loops(seed: int, chunk: int) -> None:
    rng = np.random.default_rng(seed)
    images, texts = unit(rng, 60, 8), unit(rng, 25, 8)
    owners = rng.integers(25, size=60)
    to_text = recall_at(image_to_text_ranks(images, texts, owners, chunk), (1, 3, 10))
    to_image = recall_at(text_to_image_ranks(images, texts, owners, chunk), (1, 3, 10))
    for k in (1, 3, 10):
        assert to_text[k] == pytest.approx(loop_image_recall(images, texts, owners, k))
        assert to_image[k] == pytest.approx(loop_text_recall(images, texts, owners, k))
