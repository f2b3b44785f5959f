from __future__ import annotations

import numpy as np
import pytest

from protoclip.load_test.histogram import Histogram


def filled(times: np.ndarray, ratio: float = 1.005) -> Histogram:
    histogram = Histogram(ratio)
    for seconds in times:
        histogram.add(float(seconds))
    return histogram


@pytest.mark.parametrize("ratio", [1.005, 1.02])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9, 0.99, 0.999, 1.0])
def test_quantiles_are_those_of_numpy_but_for_half_the_ratio(share: float, ratio: float) -> None:
    times = np.random.default_rng(3).lognormal(-4, 1.5, 20_000)
    exact = np.quantile(times, share, method="inverted_cdf")
    assert filled(times, ratio).quantile_s(share) == pytest.approx(exact, rel=(ratio - 1) / 2 * 1.01)


def test_count_mean_and_largest_are_exact() -> None:
    histogram = filled(np.array([0.010, 0.020, 0.060]))
    assert (histogram.count, histogram.max_s, histogram.min_s) == (3, 0.060, 0.010)
    assert histogram.mean_s() == pytest.approx(0.030)
    assert histogram.quantile_s(1) == 0.060


def test_nothing_has_no_quantile() -> None:
    assert (Histogram().quantile_s(0.5), Histogram().quantile_s(1), Histogram().mean_s()) == (None, None, None)


def test_a_single_time_is_all_its_quantiles() -> None:
    histogram = filled(np.array([0.0123]))
    assert {histogram.quantile_s(share) for share in (0.0, 0.5, 0.999, 1.0)} == {0.0123}


def test_times_out_of_range_are_counted() -> None:
    histogram = filled(np.array([0.0, 1e-9, 7200.0]))
    assert (histogram.count, histogram.max_s) == (3, 7200.0)
    assert histogram.quantile_s(0.5) <= 1e-6


def test_merged_are_all_times() -> None:
    times = np.random.default_rng(4).exponential(0.01, 1000)
    merged = filled(times[:300])
    merged.merge(filled(times[300:]))
    whole = filled(times)
    for share in (0.1, 0.5, 0.99, 1.0):
        assert merged.quantile_s(share) == whole.quantile_s(share)
    assert merged.count == 1000
    assert merged.mean_s() == pytest.approx(float(times.mean()))
    with pytest.raises(ValueError, match="different ratios"):
        merged.merge(Histogram(1.02))
