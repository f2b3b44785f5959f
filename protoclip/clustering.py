"""K-means over an episode's projected features [m, P], by faiss."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .contract.errors import ConfigError
from .evaluation.clusters import entropy
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


def agreement(first: Tensor, second: Tensor) -> float:
    """Normalised mutual information (over the mean entropy) of two labelings [m] of the same positions, in [0, 1].

    Counts only the pairs of clusters that occur: a table of 20,000 × 20,000 would not fit.
    """
    a, b = first.cpu().numpy(), second.cpu().numpy()
    joint = a * (int(b.max()) + 1) + b
    h_a, h_b, h_joint = (entropy(np.unique(x, return_counts=True)[1] / len(x)) for x in (a, b, joint))
    return 1.0 if h_a + h_b == 0 else float(np.clip(2 * (h_a + h_b - h_joint) / (h_a + h_b), 0.0, 1.0))
