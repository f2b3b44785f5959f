"""Means of rows by label over all ranks: the step of K-means, and prototypical back translation."""

from __future__ import annotations

import torch
from torch import Tensor

from protoclip.distributed import collectives

_EXACT_BITS = 52
_CHUNK_NUMBERS = 2**18


def cluster_means(rows: Tensor, labels: Tensor, num_clusters: int) -> tuple[Tensor, Tensor]:
    """Means [K, P] of the rows of each label, and the counts [K], over all ranks; one pass over the rows.

    Columns are scaled to integers whose sums are exact in float64, so that the means are bitwise equal in any
    order of the rows and on any number of ranks. The rounding error is at most 2⁻⁵¹ of the column's largest
    absolute value times the largest count.

    Args:
        rows: [n, P], this rank's. A NaN or an infinity on any rank makes its column NaN in all means.
        labels: [n]; rows labelled −1 are left out.
        num_clusters: K.

    Returns:
        A cluster without rows has mean 0 and count 0.
    """
    rows, known = rows.detach(), labels >= 0
    if not bool(known.all()):
        rows, labels = rows[known], labels[known]
    counts = collectives.all_reduce_sum(torch.bincount(labels, minlength=num_clusters))
    scale = _scale(rows, counts)
    sums = torch.zeros(num_clusters, rows.shape[1], dtype=torch.float64, device=rows.device)
    # A chunk stays in the CPU cache from conversion to addition: four times faster than all rows at once.
    chunk = max(1, _CHUNK_NUMBERS // rows.shape[1])
    for part, of in zip(rows.split(chunk), labels.split(chunk), strict=True):
        sums.index_add_(0, of, (part.double() * scale).round_())
    sums = collectives.all_reduce_sum(sums)
    return sums.div_(counts.clamp(min=1).unsqueeze(1) * scale).to(rows.dtype), counts


def _scale(rows: Tensor, counts: Tensor) -> Tensor:
    """[P] powers of two with which the largest cluster's sums stay exact; 0 where a row is not finite."""
    largest = torch.zeros(rows.shape[1], dtype=torch.float64, device=rows.device)
    if len(rows):
        largest = torch.maximum(rows.amax(dim=0), -rows.amin(dim=0)).double()
    # An all-reduced maximum may drop NaN, but not infinity.
    largest = collectives.all_reduce_max(largest.nan_to_num(nan=torch.inf, posinf=torch.inf))
    largest = largest.clamp(min=torch.finfo(torch.float32).tiny)
    bits = torch.ceil(torch.log2(largest)) + torch.ceil(torch.log2(counts.max().clamp(min=1).double()))
    return torch.exp2(_EXACT_BITS - bits)
