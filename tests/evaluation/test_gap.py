"""Modality gap, alignment and uniformity: closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest

from protoclip.evaluation.gap import alignment, modality_gap, uniformity


def test_opposite_modalities_have_the_largest_gap() -> None:
    images = np.tile(np.array([[1, 0]], dtype=np.float32), (5, 1))
    assert modality_gap(images, -images) == pytest.approx(2.0)
    assert alignment(images, -images) == pytest.approx(4.0)
    assert modality_gap(images, images) == 0.0
    assert alignment(images, images) == 0.0


def test_a_shifted_modality_has_a_gap_as_long_as_the_shift() -> None:
    rng = np.random.default_rng(0)
    images = rng.normal(size=(100, 4)).astype(np.float32)
    assert modality_gap(images, images + np.float32([0, 3, 4, 0])) == pytest.approx(5.0, abs=1e-5)


def test_uniformity_of_known_sets() -> None:
    basis = np.eye(10, dtype=np.float32)
    assert uniformity(basis) == pytest.approx(-4.0, abs=1e-5)
    assert uniformity(np.tile(basis[:1], (10, 1))) == pytest.approx(0.0, abs=1e-5)
    assert uniformity(np.stack([basis[0], -basis[0]])) == pytest.approx(-8.0, abs=1e-3)


def test_uniformity_of_a_random_sphere_reaches_the_gaussian_limit() -> None:
    vectors = np.random.default_rng(0).normal(size=(2000, 512)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    # Squared distances are 2 ± 2/√D, so the mean of exp(−2d) is exp(−4 + ½·16/D).
    assert uniformity(vectors) == pytest.approx(-4 + 8 / 512, abs=0.005)


def test_nothing_to_measure_is_nan_and_unpaired_rows_are_refused() -> None:
    empty, one = np.zeros((0, 3), dtype=np.float32), np.eye(1, 3, dtype=np.float32)
    assert math.isnan(modality_gap(empty, one))
    assert math.isnan(alignment(empty, empty))
    assert math.isnan(uniformity(one))
    with pytest.raises(ValueError, match="give pairs"):
        alignment(one, empty)
