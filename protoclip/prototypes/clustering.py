"""K-means over an episode's projected features, by faiss or, on several ranks, by `lloyd`.

`n` features on this rank, `K` clusters, `P` dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from protoclip.config.schema import ClusteringConfig
from protoclip.contract.errors import ConfigError
from protoclip.distributed import collectives
from protoclip.evaluation.clusters import entropy

from .lloyd import lloyd
from .targets import Clusters


@dataclass(frozen=True)
class ClusteringResult:
    """Clusters and how good they are.

    Attributes:
        clusters: centroids [K, P], the same on all ranks, and the labels [n] of this rank's features.
        inertia: sum of squared distances to the nearest centroid, over all ranks.
        num_empty: clusters without a member on any rank after the last assignment.
        num_split: empty clusters that were filled by splitting others, over all iterations.
    """

    clusters: Clusters
    inertia: float
    num_empty: int
    num_split: int


def cluster(
    features: Tensor, num_clusters: int, config: ClusteringConfig, seed: int, start: Tensor | None = None
) -> ClusteringResult:
    """Euclidean K-means on the features of all ranks; centroids are re-normalised only if `config.spherical`.

    Args:
        features: [n, P], this rank's; every rank may have another n.
        num_clusters: K, at most the number of points on all ranks.
        seed: the same on all ranks.
        start: [K, P], initial centroids, whose order is kept, or None. With them `config.num_restarts` is
            ignored: there is one run.

    Raises:
        ConfigError: fewer points than clusters, or faiss was asked for on several ranks.
        FloatingPointError: a feature on this rank is NaN or infinite.
    """
    features = features.detach()
    check_features(features, num_clusters)
    if config.backend == "faiss" and collectives.world_size() > 1:
        raise ConfigError("clustering.backend='faiss' works on one rank: set it to 'lloyd' or 'auto'")
    if config.backend == "lloyd" or collectives.world_size() > 1:
        return _lloyd(features, num_clusters, config, seed, start)
    return _faiss(features, num_clusters, config, seed, start)


def check_features(features: Tensor, num_clusters: int) -> None:
    """Raises what `cluster` raises of them; all ranks call it."""
    count = sum(collectives.gather_sizes(len(features)))
    if count < num_clusters:
        raise ConfigError(
            f"clustering.num_prototypes={num_clusters} needs at least {num_clusters} pairs, "
            f"but the episode has {count}: lower the one or raise the other"
        )
    if not torch.isfinite(features).all():
        raise FloatingPointError("the features to cluster hold NaN or infinity: the training has diverged")


def _lloyd(
    features: Tensor, num_clusters: int, config: ClusteringConfig, seed: int, start: Tensor | None
) -> ClusteringResult:
    found = lloyd(
        features.float(),
        num_clusters,
        num_iterations=config.num_iterations,
        num_restarts=config.num_restarts,
        spherical=config.spherical,
        seed=seed,
        start=start,
    )
    return ClusteringResult(
        Clusters(found.centroids, found.labels), found.inertia, found.num_empty, found.num_split
    )


def _faiss(
    features: Tensor, num_clusters: int, config: ClusteringConfig, seed: int, start: Tensor | None
) -> ClusteringResult:
    """faiss splits the large clusters into the empty ones; its silent subsampling of points is switched off."""
    import faiss

    points = _float_rows(features)
    machine = faiss.Kmeans(
        points.shape[1],
        num_clusters,
        niter=config.num_iterations,
        nredo=config.num_restarts if start is None else 1,
        spherical=config.spherical,
        seed=seed % (2**31),
        min_points_per_centroid=1,
        max_points_per_centroid=len(points),
        gpu=features.is_cuda and faiss.get_num_gpus() > 0,
    )
    machine.train(points, init_centroids=None if start is None else _float_rows(start))
    distances, labels = machine.assign(points)
    centroids = torch.from_numpy(np.array(machine.centroids, dtype=np.float32))
    counts = np.bincount(labels, minlength=num_clusters)
    clusters = Clusters(
        centroids.to(features.device), torch.from_numpy(labels.astype(np.int64)).to(features.device)
    )
    num_split = sum(int(stats["nsplit"]) for stats in machine.iteration_stats or ())
    return ClusteringResult(clusters, float(distances.sum()), int((counts == 0).sum()), num_split)


def _float_rows(rows: Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(rows.detach().cpu().numpy(), dtype=np.float32)


def agreement(first: Tensor, second: Tensor) -> float:
    """Normalised mutual information (over the mean entropy) of two labelings [m] of the same positions, in [0, 1].

    Counts only the pairs of clusters that occur: a table of 20,000 × 20,000 would not fit in memory.
    """
    a, b = first.cpu().numpy(), second.cpu().numpy()
    joint = a * (int(b.max()) + 1) + b
    h_a, h_b, h_joint = (entropy(np.unique(x, return_counts=True)[1] / len(x)) for x in (a, b, joint))
    return 1.0 if h_a + h_b == 0 else float(np.clip(2 * (h_a + h_b - h_joint) / (h_a + h_b), 0.0, 1.0))
