"""Cluster scores against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from protoclip.evaluation.clusters import adjusted_rand_index, contingency, normalized_mutual_information, purity


@pytest.mark.parametrize(
    ("num_clusters", "num_classes", "noise"), [(3, 5, 0.0), (10, 4, 0.5), (40, 9, 1.0), (1, 3, 1.0)]
)
def test_scores_equal(num_clusters: int, num_classes: int, noise: float) -> None:
    rng = np.random.default_rng(num_clusters)
    classes = rng.integers(num_classes, size=200)
    labels = np.where(rng.random(200) < noise, rng.integers(num_clusters, size=200), classes % num_clusters)
    table = contingency(labels, classes)
    assert normalized_mutual_information(table) == pytest.approx(
        metrics.normalized_mutual_info_score(classes, labels)
    )
    assert adjusted_rand_index(table) == pytest.approx(metrics.adjusted_rand_score(classes, labels))
    matrix = metrics.cluster.contingency_matrix(classes, labels)
    assert purity(table) == pytest.approx(matrix.max(axis=0).sum() / 200)
