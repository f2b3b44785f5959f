"""The parity measures against loops, closed forms and cases that plain cosine does not see."""

from __future__ import annotations

import math

import numpy as np
import pytest

from export.parity.compare import (
    centred_cosines,
    compare,
    error_to_neighbour,
    max_abs_difference,
    neighbour_distances,
    recall_at_1,
    row_cosines,
    top_1,
)


@pytest.fixture
def vectors() -> np.ndarray:
    rows = np.random.default_rng(0).standard_normal((12, 5))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_equal_arrays_are_perfect(vectors: np.ndarray) -> None:
    found = compare(vectors, vectors)
    assert found.finite
    assert found.max_abs_difference == 0
    assert found.error_to_neighbour == 0
    assert found.min_cosine == pytest.approx(1)
    assert found.min_centred_cosine == pytest.approx(1)


def test_cosines_against_a_loop(vectors: np.ndarray) -> None:
    other = vectors[::-1]
    expected = [
        math.fsum(a * b for a, b in zip(x, y, strict=True)) / math.hypot(*x) / math.hypot(*y)
        for x, y in zip(vectors.tolist(), other.tolist(), strict=True)
    ]
    np.testing.assert_allclose(row_cosines(vectors, other), expected, rtol=1e-12)


def test_neighbour_distances_against_a_loop(vectors: np.ndarray) -> None:
    expected = [min(math.dist(x, y) for j, y in enumerate(vectors) if j != i) for i, x in enumerate(vectors)]
    np.testing.assert_allclose(neighbour_distances(vectors), expected, rtol=1e-12)


def test_centred_cosine_sees_what_cosine_does_not(vectors: np.ndarray) -> None:
    crowded = vectors * 0.01 + np.full(5, 1.0)
    swapped = np.roll(crowded, 1, axis=0)
    assert row_cosines(crowded, swapped).min() > 0.999
    assert centred_cosines(crowded, swapped).mean() < 0.5


def test_error_is_measured_in_neighbour_distances() -> None:
    line = np.array([[0.0, 0.0], [2.0, 0.0], [4.0, 0.0]])
    assert error_to_neighbour(line, line + np.array([0.0, 0.5])) == pytest.approx(0.25)


def test_undefined_numbers_are_none() -> None:
    same = np.ones((4, 3))
    found = compare(same, same)
    assert found.finite
    assert found.min_centred_cosine is None
    assert found.error_to_neighbour is None
    assert compare(np.zeros((2, 3)), np.zeros((2, 3))).min_cosine is None


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_one_bad_number_is_not_finite(vectors: np.ndarray, bad: float) -> None:
    broken = vectors.copy()
    broken[3, 2] = bad
    for found in (compare(vectors, broken), compare(broken, vectors)):
        assert not found.finite
        assert found.max_abs_difference is None


def test_recall_and_top_1(vectors: np.ndarray) -> None:
    assert recall_at_1(vectors, vectors) == 1
    order = np.roll(np.arange(12), 3)
    np.testing.assert_array_equal(top_1(vectors, vectors[order]), np.argsort(order))
    assert recall_at_1(vectors, vectors[order]) == 0


def test_shapes_must_fit(vectors: np.ndarray) -> None:
    with pytest.raises(ValueError, match="equal shapes"):
        max_abs_difference(vectors, vectors[:3])
    with pytest.raises(ValueError, match="equal shapes"):
        compare(vectors[:0], vectors[:0])
