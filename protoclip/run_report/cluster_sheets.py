"""Chooses the clusters and members that the report shows. `N` training pairs, `K` clusters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ClusterSheet:
    """One cluster to show.

    Attributes:
        cluster: its number.
        size: number of all members.
        members: rows to show, of different groups where possible.
        purity: share of the members that are of the most common class.
        common: the most common class.
    """

    cluster: int
    size: int
    members: tuple[int, ...]
    purity: float
    common: str


def choose_clusters(
    labels: NDArray[np.int64],
    classes: NDArray[np.generic],
    groups: NDArray[np.generic],
    *,
    num_clusters: int = 8,
    num_members: int = 12,
    least_groups: int = 4,
) -> list[ClusterSheet]:
    """Clusters evenly spaced from the purest to the most mixed: neither the best nor a random sample.

    The choice is deterministic.

    Args:
        labels: `[N]`, the cluster of each row, −1 for none.
        classes: `[N]`, the class that purity is about.
        groups: `[N]`, equal values show the same thing.
        num_clusters: how many at most.
        num_members: members to show at most.
        least_groups: clusters of fewer different groups are skipped.
    """
    found = [
        _sheet(cluster, rows, classes, groups, num_members)
        for cluster, rows in _members(labels)
        if len(np.unique(groups[rows].astype(str))) >= least_groups
    ]
    found.sort(key=lambda sheet: (-sheet.purity, -sheet.size, sheet.cluster))
    if len(found) <= num_clusters:
        return found
    return [found[round(place)] for place in np.linspace(0, len(found) - 1, num_clusters)]


def distinct(values: Sequence[str], most: int) -> list[str]:
    """The first `most` different values, the most frequent first, ties in order of appearance."""
    return [value for value, _ in Counter(values).most_common(most)]


def _members(labels: NDArray[np.int64]) -> list[tuple[int, NDArray[np.int64]]]:
    order = np.argsort(labels, kind="stable")
    clusters, starts = np.unique(labels[order], return_index=True)
    parts = np.split(order, starts[1:])
    return [(int(cluster), rows) for cluster, rows in zip(clusters, parts, strict=True) if cluster >= 0]


def _sheet(
    cluster: int,
    rows: NDArray[np.int64],
    classes: NDArray[np.generic],
    groups: NDArray[np.generic],
    num_members: int,
) -> ClusterSheet:
    (common, count), *_ = Counter(str(value) for value in classes[rows]).most_common(1)
    return ClusterSheet(
        cluster=cluster,
        size=len(rows),
        members=_spread(rows, groups, num_members),
        purity=count / len(rows),
        common=common,
    )


def _spread(rows: NDArray[np.int64], groups: NDArray[np.generic], count: int) -> tuple[int, ...]:
    """First one row of every group, then the others; the larger a group is here, the earlier it comes."""
    seen: Counter[str] = Counter()
    sizes = Counter(str(groups[row]) for row in rows)
    keys = []
    for row in rows:
        group = str(groups[row])
        keys.append((seen[group], -sizes[group], int(row)))
        seen[group] += 1
    return tuple(row for _, _, row in sorted(keys)[:count])
