"""Bootstrap intervals: closed forms, coverage, groups."""

from __future__ import annotations

import numpy as np
import pytest

from protoclip.evaluation.bootstrap import bootstrap_mean


def test_a_constant_has_an_interval_of_no_width() -> None:
    found = bootstrap_mean(np.ones(20))
    assert (found.mean, found.low, found.high) == (1.0, 1.0, 1.0)


def test_the_interval_of_hits_is_the_binomial_one() -> None:
    hits = np.arange(400) < 120
    found = bootstrap_mean(hits, num_resamples=4000)
    half = 1.96 * np.sqrt(0.3 * 0.7 / 400)
    assert found.mean == pytest.approx(0.3)
    assert found.low == pytest.approx(0.3 - half, abs=0.005)
    assert found.high == pytest.approx(0.3 + half, abs=0.005)


def test_the_level_is_what_it_covers() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(300):
        found = bootstrap_mean(rng.random(200) < 0.4, level=0.8, num_resamples=200, seed=trial)
        covered += found.low <= 0.4 <= found.high
    # Standard error of the share is 0.023.
    assert covered / 300 == pytest.approx(0.8, abs=0.07)


def test_copies_of_an_item_do_not_narrow_the_interval_when_they_are_one_group() -> None:
    hits = np.arange(100) < 30
    once = bootstrap_mean(hits, num_resamples=3000)
    copies, groups = np.repeat(hits, 9), np.repeat(np.arange(100), 9)
    grouped = bootstrap_mean(copies, groups, num_resamples=3000)
    apart = bootstrap_mean(copies, num_resamples=3000)
    assert grouped.high - grouped.low == pytest.approx(once.high - once.low, rel=0.1)
    assert apart.high - apart.low == pytest.approx((once.high - once.low) / 3, rel=0.1)


def test_a_mean_of_unequal_groups_weighs_items() -> None:
    found = bootstrap_mean([1.0, 1.0, 1.0, 0.0], ["a", "a", "a", "b"])
    assert found.mean == 0.75
    assert (found.low, found.high) == (0.0, 1.0)


def test_a_seed_repeats_and_another_does_not() -> None:
    values = np.random.default_rng(0).normal(size=50)
    assert bootstrap_mean(values, seed=3) == bootstrap_mean(values, seed=3)
    assert bootstrap_mean(values, seed=3) != bootstrap_mean(values, seed=4)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        bootstrap_mean([])
    with pytest.raises(ValueError, match="finite"):
        bootstrap_mean([1.0, np.nan])
    with pytest.raises(ValueError, match="level"):
        bootstrap_mean([1.0], level=1.0)
    with pytest.raises(ValueError, match="groups"):
        bootstrap_mean([1.0, 2.0], [0])
