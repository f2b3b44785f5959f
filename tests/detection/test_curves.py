"""ROC curves against scikit-learn and the area, and histograms by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_curve as reference_curve

from protoclip.detection.curves import roc_curve, score_edges, shares_of_bins
from protoclip.detection.measures import auroc


@pytest.mark.parametrize("decimals", [6, 1])
def test_a_curve_is_that_of_scikit_learn_and_its_area_the_auroc(decimals: int) -> None:
    random = np.random.default_rng(5)
    known, strangers = random.normal(1, 1, 90).round(decimals), random.normal(0, 1, 40).round(decimals)
    found = roc_curve(known, strangers, most=1000)
    truth = np.repeat([1, 0], [90, 40])
    false, true, _ = reference_curve(truth, np.concatenate([known, strangers]), drop_intermediate=False)
    np.testing.assert_allclose(found.strangers, false, atol=1e-12)
    np.testing.assert_allclose(found.known, true, atol=1e-12)
    steps = np.diff(found.strangers) * (found.known[1:] + found.known[:-1]) / 2
    assert steps.sum() == pytest.approx(auroc(known, strangers), abs=1e-12)


def test_a_curve_of_many_scores_is_thinned_and_keeps_its_ends() -> None:
    random = np.random.default_rng(6)
    found = roc_curve(random.normal(1, 1, 3000), random.normal(0, 1, 2000))
    assert len(found.known) == len(found.strangers) <= 201
    assert (found.known[0], found.strangers[0], found.known[-1], found.strangers[-1]) == (0, 0, 1, 1)
    assert (np.diff(found.known) >= 0).all()


def test_bins_count_what_lies_beyond_them_and_take_equal_scores() -> None:
    scores = np.concatenate([np.linspace(0, 1, 999), [-1e6]])
    edges = score_edges([scores], 4)
    assert edges[0] > -1
    assert shares_of_bins(scores, edges).sum() == pytest.approx(1.0)
    assert shares_of_bins(np.array([-1e6, 0.9]), edges).tolist() == [0.5, 0, 0, 0.5]
    same = score_edges([np.full(5, 0.3)], 2)
    assert same[0] < 0.3 < same[-1]
    with pytest.raises(ValueError, match="strangers needs at least one score"):
        roc_curve([1.0], [])
