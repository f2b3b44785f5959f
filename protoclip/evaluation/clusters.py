"""How well a clustering agrees with known classes, in NumPy. `N` items, `K` clusters, `C` classes.

A label of −1 means "in no cluster": such items are left out of everything here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]


def contingency(labels: Labels, classes: NDArray[np.generic]) -> NDArray[np.int64]:
    """Items per cluster and class: `[K', C']`, with no empty row or column.

    Args:
        labels: `[N]`, cluster of each item, −1 for none.
        classes: `[N]`, class of each item, any values that can be sorted.

    Raises:
        ValueError: lengths that differ, or no item in any cluster.
    """
    if labels.shape != classes.shape:
        raise ValueError(f"labels {labels.shape} and classes {classes.shape} must have the same length")
    kept = labels >= 0
    if not kept.any():
        raise ValueError("no item is in a cluster")
    _, rows = np.unique(labels[kept], return_inverse=True)
    _, columns = np.unique(classes[kept], return_inverse=True)
    shape = (int(rows.max()) + 1, int(columns.max()) + 1)
    return np.bincount(rows * shape[1] + columns, minlength=shape[0] * shape[1]).reshape(shape)


def purity(table: NDArray[np.int64]) -> float:
    """Share of the items that belong to their cluster's largest class, in (0, 1]. Grows with K by itself.

    Args:
        table: `[K, C]` from `contingency`.
    """
    return float(table.max(axis=1).sum() / table.sum())


def normalized_mutual_information(table: NDArray[np.int64]) -> float:
    """Mutual information over the mean of the two entropies, in [0, 1]; 1 where both are a single group.

    Source: Vinh, Epps and Bailey 2010, table 2 (NMI_sum). Not corrected for chance: it grows with K.

    Args:
        table: `[K, C]` from `contingency`.
    """
    joint = table / table.sum()
    rows, columns = joint.sum(axis=1), joint.sum(axis=0)
    entropies = entropy(rows) + entropy(columns)
    if entropies == 0.0:
        return 1.0
    mutual = entropy(rows) + entropy(columns) - entropy(joint.ravel())
    return float(np.clip(2 * mutual / entropies, 0.0, 1.0))


def adjusted_rand_index(table: NDArray[np.int64]) -> float:
    """Agreement on pairs of items, corrected for chance: 1 is the same grouping, 0 is what chance gives.

    Source: Hubert and Arabie 1985, equation 5.

    Args:
        table: `[K, C]` from `contingency`.
    """
    together = _pairs(table).sum()
    in_rows, in_columns = _pairs(table.sum(axis=1)).sum(), _pairs(table.sum(axis=0)).sum()
    every = _pairs(table.sum())
    expected = in_rows * in_columns / every if every else 0.0
    highest = (in_rows + in_columns) / 2
    return 1.0 if highest == expected else float((together - expected) / (highest - expected))


def size_entropy(labels: Labels, num_clusters: int) -> float:
    """Entropy of the cluster sizes over `log K`: 1 where all are equally large, 0 where one holds everything.

    Args:
        labels: `[N]`, −1 for none.
        num_clusters: K, empty clusters included. For K = 1 the result is 1.

    Raises:
        ValueError: no item in any cluster, or a label beyond `num_clusters`.
    """
    sizes = np.bincount(labels[labels >= 0], minlength=num_clusters)
    if not sizes.sum() or len(sizes) > num_clusters:
        raise ValueError(f"labels must lie in [0, {num_clusters}), and some item must be in a cluster")
    return 1.0 if num_clusters == 1 else float(entropy(sizes / sizes.sum()) / np.log(num_clusters))


def entropy(shares: NDArray[np.float64]) -> float:
    """−Σ p log p of shares `[n]` that sum to 1, in nats; empty ones count as 0."""
    positive = shares[shares > 0]
    return float(-(positive * np.log(positive)).sum()) + 0.0


def _pairs(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.asarray(counts, dtype=np.float64) * (np.asarray(counts, dtype=np.float64) - 1) / 2
