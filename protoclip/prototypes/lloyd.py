"""K-means over points that lie on several ranks: Lloyd's iterations, each rank on its own shard.

`n` points on this rank, `M` on all, `K` clusters, `P` dimensions. Every rank ends with the same centroids.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from protoclip.distributed import collectives

from .means import cluster_means

_CHUNK_NUMBERS = 2**24
_CHUNK_NUMBERS_IN_CACHE = 2**22
_BLOCK = 32
_SPLIT = 1 / 1024
_MAX_SPREAD_CLUSTERS = 1024


@dataclass(frozen=True)
class Solution:
    """Centroids, and the assignment of this rank's points to them.

    Attributes:
        centroids: [K, P], the same on all ranks.
        labels: [n], the nearest centroid of each of this rank's points.
        inertia: sum over all ranks of squared distances to the nearest centroid.
        num_empty: clusters without a member on any rank.
        num_split: empty clusters that were filled by splitting the largest, over all iterations.
    """

    centroids: Tensor
    labels: Tensor
    inertia: float
    num_empty: int
    num_split: int


def lloyd(
    points: Tensor,
    num_clusters: int,
    *,
    num_iterations: int,
    num_restarts: int,
    spherical: bool,
    seed: int,
    start: Tensor | None = None,
) -> Solution:
    """The best of `num_restarts` runs from randomly chosen points, or one run from `start`.

    The points are chosen by k-means++ for up to 1,024 clusters, and uniformly for more.

    Sums are exact, so that centroids do not depend on how the points are distributed over the ranks, except
    for points whose two nearest centroids are equally near within rounding. A cluster that loses its last
    point takes half of the largest cluster's.

    Args:
        points: [n, P], this rank's; ranks may have different n, or none.
        start: [K, P], centroids to begin with: those of the last episode. `num_restarts` is then ignored.
        seed: the same on all ranks.
    """
    runs = [
        _iterate(points, begin, num_iterations, spherical)
        for begin in _starts(points, num_clusters, num_restarts, seed, start)
    ]
    return min(runs, key=lambda run: run.inertia)


def assign(points: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest centroid of each point and its score x·c − ½‖c‖²: [n] and [n].

    Centroids have different lengths, so the largest dot product alone is not the nearest.
    """
    # On a CPU, amax is ten times faster than argmax: argmax is taken within the best block only.
    missing = -len(centroids) % _BLOCK
    bias = F.pad(centroids.square().sum(dim=1) / -2, (0, missing), value=-torch.inf)
    centroids = F.pad(centroids, (0, 0, 0, missing))
    numbers = _CHUNK_NUMBERS_IN_CACHE if points.device.type == "cpu" else _CHUNK_NUMBERS
    chunk = max(1, numbers // len(centroids))
    labels = points.new_empty(len(points), dtype=torch.int64)
    scores = points.new_empty(len(points))
    for first in range(0, len(points), chunk):
        here = slice(first, first + chunk)
        blocks = torch.addmm(bias, points[here], centroids.T).unflatten(1, (-1, _BLOCK))
        scores[here], best = blocks.amax(dim=2).max(dim=1)
        within = blocks.take_along_dim(best[:, None, None], dim=1).squeeze(1).argmax(dim=1)
        labels[here] = best * _BLOCK + within
    return labels, scores


def _starts(
    points: Tensor, num_clusters: int, num_restarts: int, seed: int, start: Tensor | None
) -> Iterator[Tensor]:
    if start is not None:
        yield start
        return
    choose = _spread_points if num_clusters <= _MAX_SPREAD_CLUSTERS else _random_points
    for restart in range(num_restarts):
        yield choose(points, num_clusters, torch.Generator().manual_seed(seed + restart))


def _random_points(points: Tensor, num_clusters: int, rng: torch.Generator) -> Tensor:
    """[K, P] points chosen uniformly from those of all ranks, without replacement."""
    sizes = collectives.gather_sizes(len(points))
    places = torch.randperm(sum(sizes), generator=rng)[:num_clusters]
    return _points_at(points, places - sum(sizes[: collectives.rank()]))


def _spread_points(points: Tensor, num_clusters: int, rng: torch.Generator) -> Tensor:
    """k-means++ (Arthur and Vassilvitskii, 2007): a point's probability is proportional to its squared distance to
    the nearest chosen point.

    Takes as many multiplications as one iteration, but in K sequential steps.
    """
    chosen = _random_points(points, 1, rng)
    squares = (points - chosen).square().sum(dim=1, dtype=torch.float64)
    for _ in range(num_clusters - 1):
        own = squares.sum()
        sums = torch.zeros(collectives.world_size(), dtype=torch.float64, device=points.device)
        sums[collectives.rank()] = own
        ends = collectives.all_reduce_sum(sums).cumsum(0)
        target = torch.rand((), generator=rng, dtype=torch.float64).to(points.device) * ends[-1]
        # Only the rank whose part of the cumulative sum contains the target has the chosen point.
        within = target - (ends[collectives.rank()] - own)
        place = torch.searchsorted(squares.cumsum(0), within.unsqueeze(0), right=True)
        mine = (within >= 0) & (within < own)
        found = _points_at(points, torch.where(mine, place.clamp(max=len(points) - 1), -1))
        chosen = torch.cat([chosen, found])
        squares = torch.minimum(squares, (points - found).square().sum(dim=1, dtype=torch.float64))
    return chosen


def _points_at(points: Tensor, places: Tensor) -> Tensor:
    """Points of all ranks by their index on this rank; an index out of range belongs to another rank."""
    places = places.to(points.device)
    own = ((places >= 0) & (places < len(points))).nonzero().squeeze(1)
    found = points.new_zeros(len(places), points.shape[1])
    found[own] = points[places[own]]
    return collectives.all_reduce_sum(found)


def _iterate(points: Tensor, centroids: Tensor, num_iterations: int, spherical: bool) -> Solution:
    num_split = 0
    for _ in range(num_iterations):
        labels, _ = assign(points, centroids)
        centroids, counts = cluster_means(points, labels, len(centroids))
        num_split += split_largest(centroids, counts)
        if spherical:
            centroids = F.normalize(centroids, dim=1)
    labels, scores = assign(points, centroids)
    squares = torch.linalg.vector_norm(points, dtype=torch.float64).square() - 2 * scores.sum(dtype=torch.float64)
    counts = torch.bincount(labels, minlength=len(centroids))
    return Solution(
        centroids,
        labels,
        float(collectives.all_reduce_sum(squares).clamp(min=0)),
        int((collectives.all_reduce_sum(counts) == 0).sum()),
        num_split,
    )


def split_largest(centroids: Tensor, counts: Tensor) -> int:
    """Gives each empty cluster half of the currently largest one, in place; returns how many were empty."""
    empty = (counts == 0).nonzero().squeeze(1).tolist()
    counts = counts.cpu().clone()
    signs = centroids.new_ones(centroids.shape[1])
    signs[1::2] = -1
    for cluster in empty:
        largest = int(counts.argmax())
        centroids[cluster] = centroids[largest] * (1 + _SPLIT * signs)
        centroids[largest] = centroids[largest] * (1 - _SPLIT * signs)
        counts[cluster] = counts[largest] // 2
        counts[largest] -= counts[cluster]
    return len(empty)
