"""Clusters of an index's entries, for browsing. `n` sampled entries, `K` clusters, `D` embedding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protoclip.client.transport import Matrix
from protoclip.search import Entry, Store

MAX_SAMPLE = 10_000
MAX_CLUSTERS = 24
_MEMBERS_EACH = 8
_ITERATIONS = 25
_RUNS = 3
_SEED = 0


@dataclass(frozen=True)
class Cluster:
    """One cluster.

    Attributes:
        number: its place among all, the largest first.
        ids: of its members, the nearest to its centre first.
        cosines: `[size]`, of the members with the centre.
    """

    number: int
    ids: tuple[str, ...]
    cosines: NDArray[np.float32]


@dataclass(frozen=True)
class Clusters:
    """Clusters of a sample of the entries.

    Attributes:
        of_id: the number of each sampled entry's cluster.
        centres: `[K, D]`, unit norm, in the order of the clusters.
        total: entries in the index.
    """

    clusters: tuple[Cluster, ...]
    of_id: dict[str, int]
    centres: Matrix
    total: int

    def numbers_of(self, entries: Sequence[Entry]) -> list[int]:
        """The number of each entry's cluster: of one that is not in the sample, of the nearest centre."""
        nearest = np.argmax(np.stack([entry.vector for entry in entries]) @ self.centres.T, axis=1)
        return [self.of_id.get(entry.id, int(number)) for entry, number in zip(entries, nearest, strict=True)]


def find_clusters(index: Store) -> Clusters:
    """Clusters of all entries, or of 10,000 of them, evenly spaced; none where there are no entries."""
    entries = index.sample(MAX_SAMPLE)
    if not entries:
        return Clusters((), {}, np.zeros((0, index.dim), np.float32), 0)
    vectors = np.stack([entry.vector for entry in entries])
    labels, centres = spherical_kmeans(vectors, number_of_clusters(len(entries)))
    cosines = np.einsum("nd,nd->n", vectors, centres[labels])
    groups = [np.flatnonzero(labels == number) for number in range(len(centres))]
    groups = sorted((group for group in groups if len(group)), key=lambda group: (-len(group), int(group[0])))
    found = []
    for number, group in enumerate(groups):
        order = group[np.argsort(-cosines[group], kind="stable")]
        found.append(Cluster(number, tuple(entries[row].id for row in order), cosines[order].astype(np.float32)))
    of_id = {name: cluster.number for cluster in found for name in cluster.ids}
    ordered = centres[[labels[group[0]] for group in groups]]
    return Clusters(tuple(found), of_id, ordered, index.count())


def number_of_clusters(count: int) -> int:
    """At most 24, and so few that one has about eight entries or more."""
    return max(1, min(MAX_CLUSTERS, count // _MEMBERS_EACH))


def spherical_kmeans(vectors: Matrix, num_clusters: int) -> tuple[NDArray[np.int64], Matrix]:
    """K-means by cosine, the same for the same vectors: labels `[n]`, and centres `[K, D]` of unit norm.

    The best of three runs from k-means++. A cluster that loses its last member keeps its centre.

    Args:
        vectors: `[n, D]`, unit norm, n at least K.
    """
    rng = np.random.default_rng(_SEED)
    runs = [_run(vectors, _spread(vectors, num_clusters, rng)) for _ in range(_RUNS)]
    return max(runs, key=lambda run: float(np.einsum("nd,nd->", vectors, run[1][run[0]])))


def _run(vectors: Matrix, centres: Matrix) -> tuple[NDArray[np.int64], Matrix]:
    """From these centres, which are changed."""
    labels = np.full(len(vectors), -1)
    for _ in range(_ITERATIONS):
        nearest = np.argmax(vectors @ centres.T, axis=1)
        if (nearest == labels).all():
            break
        labels = nearest
        for number in range(len(centres)):
            total = vectors[labels == number].sum(axis=0, dtype=np.float64)
            norm = np.linalg.norm(total)
            if norm > 0:
                centres[number] = total / norm
    return labels.astype(np.int64), centres


def _spread(vectors: Matrix, num_clusters: int, rng: np.random.Generator) -> Matrix:
    """k-means++: each next centre is drawn by its squared distance to the nearest one."""
    chosen = [int(rng.integers(len(vectors)))]
    distances = np.full(len(vectors), np.inf)
    for _ in range(num_clusters - 1):
        distances = np.minimum(
            distances, np.maximum(0.0, 2 - 2 * (vectors @ vectors[chosen[-1]]).astype(np.float64))
        )
        total = distances.sum()
        # All that is left are copies of centres.
        weights = distances / total if total > 0 else None
        chosen.append(int(rng.choice(len(vectors), p=weights)))
    return vectors[chosen].copy()
