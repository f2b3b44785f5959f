from __future__ import annotations

from typing import Literal

import pytest
import torch

from protoclip.config.schema import ClusteringConfig
from protoclip.prototypes.clustering import cluster
from protoclip.prototypes.lloyd import assign, lloyd
from protoclip.prototypes.means import cluster_means


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("num_clusters", "num_points", "num_restarts"), [(8, 3000, 5), (300, 3000, 5), (1100, 11000, 2)]
)
def test_inertia_is_within_half_a_percent_of_faiss(num_clusters: int, num_points: int, num_restarts: int) -> None:
    """The same points and restarts; means over seeds, since either can end in a poor place.

    The last: of more clusters than k-means++ is used for.
    """
    points = torch.nn.functional.normalize(drawn(num_points, 16), dim=1)

    def inertia(backend: Literal["faiss", "lloyd"]) -> float:
        config = ClusteringConfig(num_restarts=num_restarts, backend=backend)
        return sum(cluster(points, num_clusters, config, seed=seed).inertia for seed in (0, 10, 20, 30))

    assert inertia("lloyd") < 1.005 * inertia("faiss")


def test_the_nearest_centroid_is_not_the_largest_product() -> None:
    """A long centroid has the larger dot product with a point that stands beside a short one."""
    labels, scores = assign(torch.tensor([[1.0, 0.1]]), torch.tensor([[1.0, 0.0], [5.0, 0.0]]))
    assert labels.tolist() == [0]
    assert scores.item() == pytest.approx(1.0 - 0.5)


@pytest.mark.parametrize("num_clusters", [1, 31, 32, 70])
def test_every_centroid_can_be_the_nearest(num_clusters: int) -> None:
    """Of equal centroids it is the first."""
    centroids = drawn(num_clusters, 8)
    labels, scores = assign(centroids.repeat(3, 1), centroids)
    assert torch.equal(labels, torch.arange(num_clusters).repeat(3))
    torch.testing.assert_close(scores[:num_clusters], centroids.square().sum(dim=1) / 2)
    labels, _ = assign(centroids, centroids.repeat(2, 1))
    assert torch.equal(labels, torch.arange(num_clusters))


def test_empty_clusters_are_filled_from_the_largest() -> None:
    """Ten distinct points a hundred times each: random starts fall on equal points and leave clusters empty."""
    points = drawn(10, 4).repeat(100, 1)
    start = points[:1].repeat(6, 1)
    found = lloyd(points, 6, num_iterations=20, num_restarts=1, spherical=False, seed=0, start=start)
    assert found.num_split > 0
    assert found.num_empty == 0
    assert len(found.labels.unique()) == 6


def test_a_warm_start_goes_on_from_its_centroids() -> None:
    points = drawn(400, 5)
    first = lloyd(points, 7, num_iterations=30, num_restarts=1, spherical=False, seed=0)
    again = lloyd(points, 7, num_iterations=1, num_restarts=9, spherical=False, seed=5, start=first.centroids)
    assert again.inertia <= first.inertia * (1 + 1e-6)
    assert torch.equal(again.labels, first.labels)


def test_means_are_the_same_bits_in_any_order() -> None:
    rows, labels = drawn(5000, 6), torch.randint(-1, 9, (5000,), generator=torch.Generator().manual_seed(2))
    means, counts = cluster_means(rows, labels, 10)
    order = torch.randperm(5000, generator=torch.Generator().manual_seed(3))
    shuffled, _ = cluster_means(rows[order], labels[order], 10)
    assert torch.equal(means, shuffled)
    for k in range(9):
        torch.testing.assert_close(means[k], rows[labels == k].mean(dim=0), atol=1e-6, rtol=0)
    assert counts[9] == 0
    assert torch.equal(means[9], torch.zeros(6))


def test_means_of_large_and_tiny_rows_keep_their_digits() -> None:
    rows = drawn(100, 3).double() * torch.tensor([1e12, 1.0, 1e-3], dtype=torch.float64)
    means, _ = cluster_means(rows, torch.zeros(100, dtype=torch.int64), 1)
    torch.testing.assert_close(means[0, :2], rows.mean(dim=0)[:2], rtol=1e-6, atol=1e-3)


def test_sums_are_exact_where_additions_of_floats_are_not() -> None:
    """Large values cancel; what is left are digits that float32 sums would have lost."""
    large = drawn(20000, 3) * 1e6
    rows = torch.cat([large, drawn(500, 3, seed=1), -large])
    means, counts = cluster_means(rows, torch.zeros(len(rows), dtype=torch.int64), 2)
    expected = drawn(500, 3, seed=1).double().sum(dim=0) / len(rows)
    torch.testing.assert_close(means[0].double(), expected, rtol=1e-4, atol=1e-8)
    assert counts.tolist() == [40500, 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_are_left_as_they_are(dtype: torch.dtype) -> None:
    rows = drawn(10, 2).to(dtype)
    means, _ = cluster_means(rows, torch.zeros(10, dtype=torch.int64), 1)
    assert torch.equal(rows, drawn(10, 2).to(dtype))
    assert means.dtype == dtype


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_not_averaged_away(value: float) -> None:
    """Its column is NaN in all clusters; left out by its label, it does no harm."""
    rows, labels = drawn(10, 2), torch.arange(10) % 3
    rows[3, 1] = value
    means, _ = cluster_means(rows, labels, 4)
    assert means[:, 1].isnan().all()
    assert means[:, 0].isfinite().all()
    labels[3] = -1
    means, _ = cluster_means(rows, labels, 4)
    assert means.isfinite().all()


@pytest.mark.parametrize("count", [0, 5])
def test_means_of_nothing_and_of_zeros_are_zero(count: int) -> None:
    means, counts = cluster_means(torch.zeros(count, 3), torch.zeros(count, dtype=torch.int64), 2)
    assert torch.equal(means, torch.zeros(2, 3))
    assert counts.tolist() == [count, 0]
