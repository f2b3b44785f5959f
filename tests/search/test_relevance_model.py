"""The parts of relevance beside loops in NumPy, scikit-learn, and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from protoclip.search.relevance.judge import Judge
from protoclip.search.relevance.logistic import Logistic, fit_logistic, sigmoid
from protoclip.search.relevance.references import SAME, References
from protoclip.search.relevance.reliability import Judged, bins_of, calibration_error, cut_at, cut_that_keeps

RANDOM = np.random.default_rng(0)


def judged(values: list[float], truth: list[bool], has_answer: bool = True) -> Judged:
    return Judged(np.array(values), np.array(truth), has_answer)


def test_logistic_regression_as_scikit_learn_has_it() -> None:
    features = RANDOM.standard_normal((400, 3)) * [1, 10, 0.1] + [0, 5, -3]
    truth = RANDOM.random(400) < sigmoid(features @ [1.0, 0.2, 5.0] + 14)
    fitted = fit_logistic(features, truth)
    scaled = (features - features.mean(axis=0)) / features.std(axis=0)
    reference = LogisticRegression(C=1.0, tol=1e-10, max_iter=1000).fit(scaled, truth)
    np.testing.assert_allclose(fitted(features), reference.predict_proba(scaled)[:, 1], atol=1e-6)


def test_separable_examples_and_a_constant_feature_have_finite_weights() -> None:
    features = np.column_stack([np.linspace(-1, 1, 50), np.ones(50)])
    fitted = fit_logistic(features, features[:, 0] > 0)
    assert np.isfinite(fitted.weights).all()
    assert fitted.weights[1] == 0
    assert (fitted(features) > 0.5).tolist() == (features[:, 0] > 0).tolist()


@pytest.mark.parametrize("truth", [np.ones(4, np.bool_), np.zeros(4, np.bool_)])
def test_of_one_kind_alone_nothing_is_learned(truth: NDArray[np.bool_]) -> None:
    with pytest.raises(ValueError, match="examples of both kinds"):
        fit_logistic(np.zeros((4, 1)), truth)


def test_features_as_a_loop_over_hits_and_references() -> None:
    queries, entries = (RANDOM.standard_normal((count, 6)).astype(np.float32) for count in (30, 8))
    references = References.of(queries, entries)
    query = queries[4] + np.float32(0.01)
    found = references.features(query, entries)

    def unit(row: NDArray[np.float32]) -> NDArray[np.float64]:
        return row.astype(np.float64) / np.linalg.norm(row.astype(np.float64))

    asked = unit(query - queries.mean(axis=0))
    others = [unit(row - queries.mean(axis=0)) for row in queries]
    others = [row for row in others if row @ asked < SAME]
    assert len(others) < 30
    for hit, features in zip(entries, found, strict=True):
        entry = unit(hit - entries.mean(axis=0))
        near = sorted((float(row @ entry) for row in others), reverse=True)
        likeness = np.corrcoef([row @ asked for row in others], [row @ entry for row in others])[0, 1]
        np.testing.assert_allclose(features, [entry @ asked, np.mean(near[:10]), near[0], likeness], atol=1e-5)


def test_a_gap_between_queries_and_entries_changes_nothing() -> None:
    queries, entries = (RANDOM.standard_normal((count, 6)).astype(np.float32) for count in (30, 8))
    gap = np.full(6, 3, np.float32)
    plain = References.of(queries, entries).features(queries[0], entries)
    moved = References.of(queries + gap, entries).features(queries[0] + gap, entries)
    np.testing.assert_allclose(plain, moved, atol=1e-5)


def test_where_all_references_are_the_query_there_are_none() -> None:
    references = References(np.array([[1, 0]], np.float32), np.zeros(2, np.float32), np.zeros(2, np.float32))
    features = references.features(np.array([1, 0], np.float32), np.array([[1, 1], [1, 0], [0, -2]], np.float32))
    assert features[:, 1:].tolist() == [[0, 0, 0]] * 3


def test_the_error_of_probabilities_in_closed_form() -> None:
    right = [judged([0.25] * 4, [True, False, False, False]), judged([1.0, 0.0], [True, False])]
    assert calibration_error(bins_of(right)) == 0
    wrong = [judged([0.95, 0.95], [False, False]), judged([0.05, 0.05], [False, True])]
    assert calibration_error(bins_of(wrong)) == pytest.approx((0.95 + 0.45) / 2)
    assert [(one.count, one.share) for one in bins_of(wrong)] == [(2, 0.5), (2, 0.0)]
    assert calibration_error([]) == 0


def test_what_a_cut_off_keeps_and_hides() -> None:
    queries = [
        judged([0.9, 0.4], [True, True]),
        judged([0.8, 0.7], [False, True]),
        judged([0.6, 0.1], [False, False], has_answer=False),
        judged([0.3, 0.1], [False, False], has_answer=False),
    ]
    cut = cut_at(queries, 0.5)
    assert (cut.kept, cut.empty) == (pytest.approx(2 / 3), 0.5)
    all_kept = cut_that_keeps(queries)
    assert (all_kept.value, all_kept.kept, all_kept.empty) == (0.4, 1.0, 0.5)
    assert cut_that_keeps(queries, 0.6).value == 0.7


def test_relevance_is_that_of_both_questions_together() -> None:
    """A hit counts by its first feature, a query by the second of its best hit, and the product as it is."""

    def logistic(*weights: float) -> Logistic:
        return Logistic(np.zeros(len(weights)), np.ones(len(weights)), np.array(weights), 0.0)

    judge = Judge(logistic(1, 0), logistic(0, 1, 0, 0, 0, 0), logistic(1))
    nearest = np.array([[2.0, -1.5], [0.5, 3.0]])
    hits = np.array([[2.0, 0.0], [-1.0, 0.0]])
    product = sigmoid(hits[:, 0]) * sigmoid(np.array(-1.5))
    np.testing.assert_allclose(judge.relevance(nearest, hits), product, atol=1e-6)
