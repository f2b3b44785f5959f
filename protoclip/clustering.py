"""K-means over an episode's projected features [m, P], by faiss."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .contract.errors import ConfigError
from .prototypes import Clusters


@dataclass(frozen=True)
class ClusteringResult:
    """Clusters and how good they are.

    Attributes:
        inertia: sum of squared distances to the own centroid.
        num_empty: clusters without a member after the last assignment.
    """

    clusters: Clusters
    inertia: float
    num_empty: int


def kmeans(
    features: Tensor, num_clusters: int, *, num_iterations: int, num_restarts: int, spherical: bool, seed: int
) -> ClusteringResult:
    """The best of `num_restarts` K-means runs. Euclidean; centroids are re-normalised only if `spherical`.

    faiss re-seeds an empty cluster by splitting a large one. All points take part: its silent subsampling
    above 256 points a centroid is switched off.

    Raises:
        ConfigError: fewer points than clusters.
        FloatingPointError: a feature is NaN or infinite.
    """
    import faiss

    points = np.ascontiguousarray(features.detach().cpu().numpy(), dtype=np.float32)
    if len(points) < num_clusters:
        raise ConfigError(
            f"clustering.num_prototypes={num_clusters} needs at least {num_clusters} pairs, "
            f"but the episode has {len(points)}: lower the one or raise the other"
        )
    if not np.isfinite(points).all():
        raise FloatingPointError("the features to cluster hold NaN or infinity: the training has diverged")
    machine = faiss.Kmeans(
        points.shape[1],
        num_clusters,
        niter=num_iterations,
        nredo=num_restarts,
        spherical=spherical,
        seed=seed % (2**31),
        min_points_per_centroid=1,
        max_points_per_centroid=len(points),
    )
    machine.train(points)
    distances, labels = machine.assign(points)
    centroids = torch.from_numpy(np.array(machine.centroids, dtype=np.float32))
    counts = np.bincount(labels, minlength=num_clusters)
    clusters = Clusters(
        centroids.to(features.device), torch.from_numpy(labels.astype(np.int64)).to(features.device)
    )
    return ClusteringResult(clusters, float(distances.sum()), int((counts == 0).sum()))


def size_entropy(labels: Tensor, num_clusters: int) -> float:
    """Entropy of the cluster sizes over its maximum log K: 1 when all are of one size."""
    shares = torch.bincount(labels, minlength=num_clusters).double() / len(labels)
    shares = shares[shares > 0]
    return float(-(shares * shares.log()).sum() / np.log(num_clusters))


def agreement(first: Tensor, second: Tensor) -> float:
    """Normalised mutual information of two labelings [m] of the same positions, in [0, 1]."""
    from sklearn.metrics import normalized_mutual_info_score

    return float(normalized_mutual_info_score(first.cpu().numpy(), second.cpu().numpy()))
