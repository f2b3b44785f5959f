"""Clusters that follow what was trained on: K-means where all rows are new, a NumPy loop where some are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from protoclip.prototypes.following import follow
from protoclip.prototypes.lloyd import assign, lloyd
from protoclip.prototypes.targets import Clusters


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("spherical", [False, True])
def test_with_every_row_new_it_is_k_means(spherical: bool) -> None:
    """A start with twin centroids: of two, one stays empty and is put beside the largest cluster."""
    points, start = drawn(500, 8), drawn(20, 8, seed=1)
    start[7] = start[3]
    new = torch.ones(500, dtype=torch.bool)
    found = follow(
        points, Clusters(start, torch.zeros(500, dtype=torch.int64)), new, num_iterations=3, spherical=spherical
    )
    wanted = lloyd(points, 20, num_iterations=3, num_restarts=1, spherical=spherical, seed=0, start=start)
    assert torch.equal(found.clusters.centroids, wanted.centroids)
    assert torch.equal(found.clusters.labels, wanted.labels)
    assert found.inertia == pytest.approx(wanted.inertia, rel=1e-5)
    assert (found.num_empty, found.num_split) == (wanted.num_empty, wanted.num_split)
    assert found.num_split >= 1


def test_rows_that_are_not_new_keep_their_cluster() -> None:
    """Against a loop over rows; two of them had no cluster yet and are new as well."""
    points, start = drawn(120, 4), drawn(6, 4, seed=1)
    labels = torch.randint(6, (120,), generator=torch.Generator().manual_seed(2))
    labels[[5, 6]] = -1
    new = torch.arange(120) % 4 == 0
    found = follow(points, Clusters(start, labels), new, num_iterations=2)
    rows, centroids, own = points.double().numpy(), start.double().numpy(), labels.numpy().copy()
    asked = [row for row in range(120) if new[row] or labels[row] < 0]
    for turn in range(3):
        for row in asked:
            own[row] = int(((rows[row] - centroids) ** 2).sum(axis=1).argmin())
        if turn < 2:
            centroids = np.stack([rows[own == k].mean(axis=0) for k in range(6)])
    assert found.clusters.labels.tolist() == own.tolist()
    np.testing.assert_allclose(found.clusters.centroids.numpy(), centroids, atol=1e-6)
    assert found.inertia == pytest.approx(((rows - centroids[own]) ** 2).sum(), rel=1e-5)
    kept = [row for row in range(120) if row not in asked]
    assert found.clusters.labels[kept].tolist() == labels[kept].tolist()


def test_on_features_that_drift_it_is_within_two_percent_of_k_means() -> None:
    """A quarter of the rows is projected anew, and moved, between two refreshes, as in training; one iteration
    each against twenty over all rows, from the same start."""
    centres = drawn(40, 16, seed=3)
    points = centres.repeat(50, 1) + 0.6 * drawn(2000, 16, seed=4)
    first = lloyd(points, 40, num_iterations=20, num_restarts=1, spherical=False, seed=0)
    followed = whole = Clusters(first.centroids, first.labels)
    ratios = []
    for refresh in range(12):
        rows = torch.arange(2000) % 4 == refresh % 4
        points[rows] += 0.15 * drawn(int(rows.sum()), 16, seed=10 + refresh) + 0.05
        followed = (found := follow(points, followed, rows, num_iterations=1)).clusters
        best = lloyd(points, 40, num_iterations=20, num_restarts=1, spherical=False, seed=0, start=whole.centroids)
        whole = Clusters(best.centroids, best.labels)
        ratios.append(found.inertia / best.inertia)
    assert max(ratios) < 1.02
    # The test can fail: clusters that stay where they were are worse by far.
    stale = (points - first.centroids[assign(points, first.centroids)[0]]).square().sum().item()
    assert stale / best.inertia > 1.02


def test_a_feature_that_is_not_finite_is_refused() -> None:
    points = drawn(20, 4)
    points[3, 1] = torch.nan
    with pytest.raises(FloatingPointError, match="diverged"):
        follow(
            points, Clusters(drawn(3, 4), torch.zeros(20, dtype=torch.int64)), torch.ones(20) > 0, num_iterations=1
        )
