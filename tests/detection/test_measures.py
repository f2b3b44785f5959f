"""Measures of detectors against scikit-learn and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from protoclip.detection.measures import auroc, average_precision, false_positive_rate, separation


@pytest.mark.parametrize("decimals", [6, 1])
def test_areas_are_those_of_scikit_learn_with_and_without_ties(decimals: int) -> None:
    random = np.random.default_rng(3)
    known, strangers = random.normal(1, 1, 137).round(decimals), random.normal(0, 1, 71).round(decimals)
    truth, scores = np.repeat([1, 0], [137, 71]), np.concatenate([known, strangers])
    assert auroc(known, strangers) == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    assert average_precision(known, strangers) == pytest.approx(average_precision_score(truth, scores), abs=1e-12)
    assert average_precision(-strangers, -known) == pytest.approx(
        average_precision_score(1 - truth, -scores), abs=1e-12
    )


def test_strangers_are_accepted_from_the_score_that_95_percent_of_the_known_reach() -> None:
    known = np.arange(1.0, 21.0)
    assert false_positive_rate(known, [1.0, 1.9, 2.0, 30.0]) == 0.5
    assert false_positive_rate(known, [0.0]) == 0.0
    assert false_positive_rate([1.0], [1.0, 0.5]) == 0.5


def test_intervals_hold_their_values_and_are_the_same_for_the_same_seed() -> None:
    random = np.random.default_rng(0)
    known, strangers = random.normal(1, 1, 200), random.normal(0, 1, 100)
    found = separation(known, strangers, num_resamples=100)
    assert (found.num_known, found.num_strangers) == (200, 100)
    for measure in (found.auroc, found.fpr95, found.aupr_known, found.aupr_strangers):
        assert measure.low <= measure.value <= measure.high
        assert measure.low < measure.high
    assert found == separation(known, strangers, num_resamples=100)


def test_the_interval_of_the_area_is_as_wide_as_theory_says() -> None:
    """Hanley and McNeil 1982, equation 1, for continuous scores."""
    random = np.random.default_rng(1)
    known, strangers = random.normal(1, 1, 400), random.normal(0, 1, 300)
    found = separation(known, strangers, num_resamples=400).auroc
    area = found.value
    one, both = area / (2 - area), 2 * area**2 / (1 + area)
    error = np.sqrt((area * (1 - area) + 399 * (one - area**2) + 299 * (both - area**2)) / (400 * 300))
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.2)


@pytest.mark.parametrize(("known", "strangers"), [([], [1.0]), ([1.0], []), ([np.nan], [1.0]), ([1.0], [np.inf])])
def test_nothing_and_what_is_no_number_are_refused(known: list[float], strangers: list[float]) -> None:
    with pytest.raises(ValueError, match="needs at least one score"):
        auroc(known, strangers)
