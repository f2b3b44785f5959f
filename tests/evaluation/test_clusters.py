"""Cluster scores: closed forms, and what is left out."""

from __future__ import annotations

import numpy as np
import pytest

from protoclip.evaluation.clusters import (
    adjusted_rand_index,
    contingency,
    normalized_mutual_information,
    purity,
    size_entropy,
)


def test_the_same_grouping_under_other_names_is_perfect() -> None:
    table = contingency(np.array([2, 2, 0, 0, 5]), np.array(["a", "a", "b", "b", "c"], dtype=object))
    assert purity(table) == normalized_mutual_information(table) == adjusted_rand_index(table) == 1.0


def test_independent_groupings_share_nothing() -> None:
    labels, classes = (grid.ravel() for grid in np.meshgrid(np.arange(4), np.arange(5)))
    table = contingency(labels, classes)
    assert normalized_mutual_information(table) == pytest.approx(0.0, abs=1e-12)
    assert purity(table) == pytest.approx(1 / 5)
    # 20 items, no pair is together in both: (0 − e) / (½(r + c) − e) with r = 40, c = 30, e = r·c / 190.
    expected = 40 * 30 / 190
    assert adjusted_rand_index(table) == pytest.approx(-expected / (35 - expected))


def test_one_cluster_is_as_pure_as_its_largest_class_and_says_nothing() -> None:
    table = contingency(np.zeros(10, dtype=np.int64), np.array([0] * 7 + [1] * 3))
    assert purity(table) == pytest.approx(0.7)
    assert normalized_mutual_information(table) == 0.0
    assert adjusted_rand_index(table) == 0.0


def test_unclustered_items_are_left_out() -> None:
    labels = np.array([-1, 0, 0, 1, -1])
    assert contingency(labels, np.array([9, 1, 1, 2, 9])).tolist() == [[2, 0], [0, 1]]
    assert size_entropy(labels, 2) == pytest.approx(-(2 / 3 * np.log(2 / 3) + 1 / 3 * np.log(1 / 3)) / np.log(2))


def test_size_entropy_of_even_and_lopsided_clusters() -> None:
    assert size_entropy(np.arange(12) % 4, 4) == pytest.approx(1.0)
    assert size_entropy(np.zeros(12, dtype=np.int64), 4) == 0.0
    assert size_entropy(np.arange(12) % 4, 16) == pytest.approx(0.5)
    assert size_entropy(np.zeros(3, dtype=np.int64), 1) == 1.0


def test_permuting_items_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    labels, classes = rng.integers(6, size=90), rng.integers(4, size=90)
    order = rng.permutation(90)
    for score in (purity, normalized_mutual_information, adjusted_rand_index):
        before = score(contingency(labels, classes))
        assert score(contingency(labels[order], classes[order])) == pytest.approx(before, abs=1e-12)


def test_nothing_in_clusters_is_refused() -> None:
    with pytest.raises(ValueError, match="no item"):
        contingency(np.array([-1, -1]), np.array([0, 1]))
    with pytest.raises(ValueError, match="same length"):
        contingency(np.array([0]), np.array([0, 1]))
    with pytest.raises(ValueError, match=r"\[0, 2\)"):
        size_entropy(np.array([0, 2]), 2)
