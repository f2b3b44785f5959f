"""Centroids that follow their clusters slowly. `n` features on this rank, `K` clusters, `P` dimensions."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from .lloyd import assign
from .targets import Clusters


def with_momentum(
    found: Clusters, last: Tensor, features: Tensor, momentum: float, *, spherical: bool = False
) -> Clusters:
    """C ← μ·C_last + (1 − μ)·C, and the nearest of these centroids for each feature.

    `found` must come from a start at `last`: the k-th centroid is then the k-th one before, moved. A cluster that
    K-means filled by splitting another has jumped, and is halfway for some refreshes.

    Args:
        found: centroids [K, P].
        last: [K, P], the last centroids.
        features: [n, P], this rank's.
        momentum: μ, in [0, 1).
        spherical: re-normalise the centroids.
    """
    centroids = momentum * last + (1 - momentum) * found.centroids
    if spherical:
        centroids = F.normalize(centroids, dim=1)
    return Clusters(centroids, assign(features.detach().float(), centroids)[0])
