"""Clusters that follow what was trained on since the last ones: K-means in which only new rows are assigned.

`n` features on this rank, `K` clusters, `P` dimensions.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from protoclip.distributed import collectives

from .clustering import ClusteringResult, check_features
from .lloyd import assign, split_largest
from .means import cluster_means
from .targets import Clusters


def follow(
    features: Tensor, last: Clusters, is_new: Tensor, *, num_iterations: int, spherical: bool = False
) -> ClusteringResult:
    """Lloyd's iterations from the last centroids, in which a row that isn't new keeps the cluster that it has.

    Centroids are means of all their rows, as in K-means; with every row new it is K-means. An assignment costs
    in proportion to the new rows. An empty cluster is put beside the largest one, whose new rows alone can move
    there.

    Args:
        features: [n, P], this rank's.
        last: centroids [K, P], and the clusters [n] that this rank's rows had, −1 for none.
        is_new: [n] bool, rows to assign; those without a cluster are new as well.
        num_iterations: assignments, each with means after it; one more comes at the end.
        spherical: re-normalise centroids in each iteration.

    Raises:
        FloatingPointError: a feature is NaN or infinite.
    """
    features = features.detach().float()
    check_features(features, len(last.centroids))
    centroids, labels = last.centroids.clone(), last.labels.clone()
    rows = (is_new | (labels < 0)).nonzero().squeeze(1)
    num_split = 0
    for _ in range(num_iterations):
        labels[rows] = assign(features[rows], centroids)[0]
        centroids, counts = cluster_means(features, labels, len(centroids))
        num_split += split_largest(centroids, counts)
        if spherical:
            centroids = F.normalize(centroids, dim=1)
    labels[rows] = assign(features[rows], centroids)[0]
    squares = (features - centroids[labels]).double().square().sum()
    counts = collectives.all_reduce_sum(torch.bincount(labels, minlength=len(centroids)))
    inertia = float(collectives.all_reduce_sum(squares))
    return ClusteringResult(Clusters(centroids, labels), inertia, int((counts == 0).sum()), num_split)
