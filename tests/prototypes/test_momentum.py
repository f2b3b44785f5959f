"""Centroids with momentum, against NumPy's loop."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from protoclip.config.schema import ClusteringConfig
from protoclip.prototypes.clustering import cluster
from protoclip.prototypes.momentum import with_momentum
from protoclip.prototypes.targets import Clusters


@pytest.mark.parametrize("spherical", [False, True])
def test_centroids_and_labels_are_those_of_a_loop(spherical: bool) -> None:
    rng = np.random.default_rng(0)
    points, last, new = (rng.normal(size=(n, 4)).astype(np.float32) for n in (40, 5, 5))
    start = Clusters(torch.from_numpy(new), torch.zeros(40, dtype=torch.int64))
    found = with_momentum(start, torch.from_numpy(last), torch.from_numpy(points), 0.75, spherical=spherical)
    expected = 0.75 * last + 0.25 * new
    if spherical:
        expected = np.stack([row / np.sqrt((row**2).sum()) for row in expected])
    np.testing.assert_allclose(found.centroids.numpy(), expected, rtol=1e-6)
    nearest = [int(np.argmin([((point - row) ** 2).sum() for row in expected])) for point in points]
    assert found.labels.tolist() == nearest


def test_centroids_approach_those_of_features_that_stay() -> None:
    """A geometric series: the distance to K-means' own centroids is multiplied by μ at every refresh."""
    rng = torch.Generator().manual_seed(1)
    centres = torch.tensor([[4.0, 0.0], [-4.0, 0.0], [0.0, 4.0]])
    points = centres.repeat_interleave(20, 0) + 0.1 * torch.randn(60, 2, generator=rng)
    config = ClusteringConfig(num_iterations=5, backend="lloyd")
    goal = cluster(points, 3, config, 0, centres).clusters.centroids
    last = centres + 1.0
    errors = []
    for _ in range(4):
        moved = with_momentum(cluster(points, 3, config, 0, last).clusters, last, points, 0.5)
        last = moved.centroids
        errors.append((last - goal).norm().item())
    assert [b / a for a, b in pairwise(errors)] == pytest.approx([0.5] * 3, rel=1e-3)
