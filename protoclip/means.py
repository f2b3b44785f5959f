"""Means of rows by label over all ranks: the step of K-means, and prototypical back translation."""

from __future__ import annotations

import torch
from torch import Tensor

from . import distributed

_BITS = 62


def cluster_means(rows: Tensor, labels: Tensor, num_clusters: int) -> tuple[Tensor, Tensor]:
    """Means [K, P] of the rows of each label, and the counts [K], over all ranks; one pass over the rows.

    Sums are of whole numbers, the rows scaled to use the bits there are. They are exact, and so the means
    are the same bits in any order of the rows and on any number of ranks.

    Args:
        rows: [n, P], this rank's; NaN in, NaN out.
        labels: [n]; −1 is left out.
        num_clusters: K.

    Returns:
        The mean of a cluster without rows is zero: its count says so.
    """
    known = labels >= 0
    if not bool(known.all()):
        rows, labels = rows[known], labels[known]
    counts = distributed.all_reduce_sum(torch.bincount(labels, minlength=num_clusters))
    scale = _scale(rows, counts)
    whole = (rows.double() * scale).round_().to(torch.int64)
    sums = torch.zeros(num_clusters, rows.shape[1], dtype=torch.int64, device=rows.device)
    sums = distributed.all_reduce_sum(sums.index_add_(0, labels, whole))
    means = sums.double() / scale / counts.clamp(min=1).unsqueeze(1)
    return means.to(rows.dtype), counts


def _scale(rows: Tensor, counts: Tensor) -> Tensor:
    """A power of two by which the largest cluster's sum still fits."""
    largest = rows.detach().abs().max().double() if len(rows) else rows.new_zeros((), dtype=torch.float64)
    largest = distributed.all_reduce_max(largest).clamp(min=torch.finfo(torch.float32).tiny)
    bits = _BITS - torch.ceil(torch.log2(largest)) - torch.ceil(torch.log2(counts.max().clamp(min=1).double()))
    # Doubles hold 52 bits behind the point; more would be noise.
    return torch.exp2(bits.clamp(max=52 - torch.ceil(torch.log2(largest))))
