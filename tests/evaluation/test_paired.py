"""Intervals over seeds, calculated by hand, and the words that they allow."""

from __future__ import annotations

import math

import numpy as np
import pytest

from protoclip.evaluation.paired import estimate, paired_difference, verdict


def test_an_interval_is_students() -> None:
    """s = 1, t = 4.30265 with 2 degrees: 4.30265 / √3. Of two values 1 and 3: s = √2, t = 12.70620."""
    three = estimate([1.0, 2.0, 3.0])
    assert (three.mean, three.half_width) == (2.0, pytest.approx(2.48414, abs=1e-5))
    two = estimate([1.0, 3.0])
    assert (two.mean, two.half_width) == (2.0, pytest.approx(12.70620, abs=1e-5))


def test_several_comparisons_widen_it() -> None:
    """With 2 degrees t has a closed form, (2p − 1) · √(2 / (4p(1 − p))): at p = 1 − 0.05/16 it is 12.5897."""
    p = 1 - 0.05 / 16
    t = (2 * p - 1) * math.sqrt(2 / (4 * p * (1 - p)))
    assert estimate([1.0, 2.0, 3.0], num_comparisons=8).half_width == pytest.approx(t / math.sqrt(3), rel=1e-6)


def test_differences_are_paired_by_seed() -> None:
    """2.0, 2.7 and 2.0: mean 2.23333, s = 0.40415, half-width 4.30265 · 0.40415 / √3 = 1.00395."""
    found = paired_difference([48.1, 47.9, 48.3], [46.1, 45.2, 46.3])
    assert found.mean == pytest.approx(2.23333, abs=1e-5)
    assert found.half_width == pytest.approx(1.00395, abs=1e-4)
    # Seeds that move both alike leave no doubt, though the values themselves are far apart.
    assert paired_difference([10.0, 50.0, 90.0], [9.0, 49.0, 89.0]).half_width == 0


@pytest.mark.parametrize(
    ("differences", "num_comparisons", "word"),
    [
        ([2.0, 2.1, 1.9], 1, "better"),
        ([-2.0, -2.1, -1.9], 1, "worse"),
        ([2.0, -1.0, 2.5], 1, "no clear difference"),
        ([0.0, 0.0, 0.0], 1, "no clear difference"),
        ([5.0], 1, "one seed shows nothing"),
        ([1.3, 2.95, 2.05], 1, "better"),
        ([1.3, 2.95, 2.05], 5, "no clear difference"),
    ],
)
def test_a_word_is_said_only_where_the_interval_leaves_out_zero(
    differences: list[float], num_comparisons: int, word: str
) -> None:
    assert verdict(estimate(differences, num_comparisons)).value == word


def test_all_of_a_family_hold_together() -> None:
    """Five true differences of 0: without a correction some interval misses 0 in about a fifth of all studies."""
    rng = np.random.default_rng(0)
    studies = rng.normal(size=(1000, 5, 3))

    def share_with_a_word(num_comparisons: int) -> float:
        words = [[verdict(estimate(row, num_comparisons)) for row in study.tolist()] for study in studies]
        return sum(any(word in ("better", "worse") for word in study) for study in words) / len(studies)

    assert share_with_a_word(5) < 0.07
    assert share_with_a_word(1) > 0.15


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [float("inf"), 1.0]])
def test_what_has_no_mean_is_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        estimate(values)
    with pytest.raises(ValueError, match="num_comparisons=0"):
        estimate([1.0], num_comparisons=0)
