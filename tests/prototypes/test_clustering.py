from __future__ import annotations

import numpy as np
import pytest
import torch

from protoclip.config.schema import ClusteringConfig
from protoclip.contract.errors import ConfigError
from protoclip.prototypes.clustering import agreement, cluster


@pytest.fixture(params=["faiss", "lloyd"])
def config(request: pytest.FixtureRequest) -> ClusteringConfig:
    return ClusteringConfig(num_iterations=20, num_restarts=3, backend=request.param)


def blobs(num_clusters: int, per_cluster: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(num_clusters, 8, generator=generator) * 10
    noise = torch.randn(num_clusters, per_cluster, 8, generator=generator) * 0.1
    return (centres[:, None] + noise).reshape(-1, 8)


def test_well_separated_blobs_are_found(config: ClusteringConfig) -> None:
    result = cluster(blobs(5, 30), 5, config, 1)
    labels = result.clusters.labels.reshape(5, 30)
    assert all(len(set(row.tolist())) == 1 for row in labels)
    assert result.num_empty == 0
    assert agreement(result.clusters.labels, torch.arange(150) // 30) == pytest.approx(1.0)


def test_inertia_and_centroids_are_those_of_the_labels(config: ClusteringConfig) -> None:
    points = blobs(4, 50)
    result = cluster(points, 7, config, 1)
    centroids, labels = result.clusters.centroids, result.clusters.labels
    distances = ((points[:, None] - centroids[None]) ** 2).sum(-1)
    assert torch.equal(distances.argmin(1), labels)
    assert result.inertia == pytest.approx(distances.min(1).values.sum().item(), rel=1e-4)


def test_as_good_as_plain_lloyd_from_many_starts(config: ClusteringConfig) -> None:
    """A NumPy Lloyd's best of 20 starts on the same points: ours may not be worse by more than 2 %."""
    points = torch.randn(400, 6, generator=torch.Generator().manual_seed(3))
    best = min(_lloyd(points.numpy(), 10, seed) for seed in range(20))
    assert cluster(points, 10, config.model_copy(update={"num_restarts": 10}), 1).inertia < best * 1.02


def test_all_points_take_part(config: ClusteringConfig) -> None:
    """faiss would silently draw 256 points a centroid: 2 of 1000 far points then have no say."""
    points = torch.zeros(1000, 2)
    points[998:] = 100.0
    result = cluster(
        points + torch.randn(1000, 2, generator=torch.Generator().manual_seed(0)) * 0.01, 2, config, 1
    )
    assert sorted(torch.bincount(result.clusters.labels).tolist()) == [2, 998]


def test_the_same_seed_gives_the_same_clusters(config: ClusteringConfig) -> None:
    points = torch.randn(300, 5, generator=torch.Generator().manual_seed(1))
    first, second = (cluster(points, 9, config, 1).clusters for _ in range(2))
    assert torch.equal(first.labels, second.labels)
    assert torch.equal(first.centroids, second.centroids)


def test_a_warm_start_goes_on_in_the_order_of_its_centroids(config: ClusteringConfig) -> None:
    """One iteration from shifted centroids: each comes back to its own blob, in one run."""
    points = blobs(5, 30)
    centres = points.reshape(5, 30, 8).mean(dim=1)[[3, 0, 4, 1, 2]]
    start = centres + 0.3
    one = config.model_copy(update={"num_iterations": 1})
    result = cluster(points, 5, one, 7, start)
    torch.testing.assert_close(result.clusters.centroids, centres, atol=1e-4, rtol=0)
    assert result.inertia < torch.cdist(points, start).amin(dim=1).square().sum()
    assert torch.equal(start, centres + 0.3)


def test_a_warm_start_lowers_the_inertia(config: ClusteringConfig) -> None:
    points = torch.randn(500, 6, generator=torch.Generator().manual_seed(4))
    one = config.model_copy(update={"num_iterations": 1})
    first = cluster(points, 20, one, 1)
    again = cluster(points, 20, one, 99, first.clusters.centroids)
    assert again.inertia < first.inertia
    moved = (again.clusters.centroids - first.clusters.centroids).norm(dim=1)
    assert moved.max() < torch.pdist(first.clusters.centroids).min()


def test_spherical_centroids_are_of_unit_norm(config: ClusteringConfig) -> None:
    points = torch.nn.functional.normalize(torch.randn(200, 5, generator=torch.Generator().manual_seed(1)), dim=1)
    centroids = cluster(points, 6, config.model_copy(update={"spherical": True}), 1).clusters.centroids
    np.testing.assert_allclose(centroids.norm(dim=1).numpy(), 1, atol=1e-5)


def test_fewer_points_than_clusters_is_refused(config: ClusteringConfig) -> None:
    with pytest.raises(ConfigError, match=r"clustering\.num_prototypes=20 needs at least 20 pairs"):
        cluster(torch.randn(10, 4), 20, config, 1)


def test_nan_is_not_clustered(config: ClusteringConfig) -> None:
    points = torch.randn(50, 4)
    points[7, 2] = float("nan")
    with pytest.raises(FloatingPointError, match="NaN or infinity"):
        cluster(points, 5, config, 1)


def test_agreement_equals_scikit_learns() -> None:
    from sklearn.metrics import normalized_mutual_info_score

    draw = np.random.default_rng(0)
    first, second = draw.integers(0, 9, 200), draw.integers(0, 5, 200)
    expected = normalized_mutual_info_score(first, second)
    assert agreement(torch.from_numpy(first), torch.from_numpy(second)) == pytest.approx(expected, abs=1e-12)
    assert agreement(torch.zeros(5, dtype=torch.int64), torch.zeros(5, dtype=torch.int64)) == 1.0


def _lloyd(points: np.ndarray, num_clusters: int, seed: int) -> float:
    draw = np.random.default_rng(seed)
    centroids = points[draw.choice(len(points), num_clusters, replace=False)].copy()
    for _ in range(20):
        distances = ((points[:, None] - centroids[None]) ** 2).sum(-1)
        labels = distances.argmin(1)
        for k in range(num_clusters):
            if (labels == k).any():
                centroids[k] = points[labels == k].mean(0)
    return float(((points[:, None] - centroids[None]) ** 2).sum(-1).min(1).sum())
