"""An episode's targets: features of all its pairs clustered on both sides, the centroids translated.

`m` pairs in the episode, `B` in a batch, `K` clusters, `P` projection.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import distributed
from .clustering import ClusteringResult, agreement, cluster
from .data.draws import torch_seed
from .evaluation.clusters import size_entropy
from .features import Shard
from .prototypes import Clusters, EpisodeTargets, ExternalClusters, make_targets
from .setup import Session


def cluster_episode(
    session: Session, number: int, shard: Shard, last: EpisodeTargets | None
) -> tuple[EpisodeTargets, dict[str, Any]]:
    """The targets that an episode's features give, and what was measured on the way, for the metrics.

    Args:
        number: the episode that the features are of.
        last: the targets before these: where a warm start begins, and what label churn is measured against.
    """
    started = time.monotonic()
    starts: tuple[Tensor | None, Tensor | None] = (None, None)
    if last is not None and _starts_warm(session):
        starts = last.image_clusters.centroids, last.text_clusters.centroids
    image = _cluster(session, shard.image, shard.positions, number, "image", starts[0])
    text = _cluster(session, shard.text, shard.positions, number, "text", starts[1])
    targets = make_targets(
        number,
        shard,
        (image.clusters, text.clusters),
        _external(session, number),
        back_translation=session.config.loss.back_translation,
    )
    measured = _measure(image, text, session.num_prototypes) | _churn(session, targets, last)
    return targets, measured | {"seconds_cluster": time.monotonic() - started}


def _starts_warm(session: Session) -> bool:
    wanted = session.config.clustering.warm_start
    return session.config.prototypes.source == "stream" if wanted is None else wanted


def _cluster(
    session: Session, features: Tensor, positions: Tensor, number: int, side: str, start: Tensor | None
) -> ClusteringResult:
    """K-means, with the labels of the whole episode."""
    config = session.config
    seed = torch_seed(config.train.seed, f"clusters of {side}", number)
    found = cluster(features, session.num_prototypes, config.clustering, seed, start)
    labels = distributed.fill(found.clusters.labels, positions, session.plan.size)
    return dataclasses.replace(found, clusters=Clusters(found.clusters.centroids, labels))


def external_clusters(session: Session, number: int) -> Tensor | None:
    """y_ext of each position [m] of an episode, on the device; None without an external teacher."""
    if session.external_labels is None:
        return None
    return torch.from_numpy(session.external_labels[session.plan.episode(number).indices]).to(session.device)


def _external(session: Session, number: int) -> ExternalClusters | None:
    labels = external_clusters(session, number)
    return None if labels is None else ExternalClusters(labels, session.config.teacher.num_prototypes)


def _churn(session: Session, targets: EpisodeTargets, last: EpisodeTargets | None) -> dict[str, float | None]:
    """Normalised mutual information of the labels with the last ones, over the pairs that both episodes hold.

    1 where nothing moved; None where no pair is in both, as where an episode is a small part of the data.
    """
    if last is None:
        return {"stability_image": None, "stability_text": None}
    last_pairs, pairs = (session.plan.episode(number).indices for number in (last.number, targets.number))
    _, before, now = np.intersect1d(last_pairs, pairs, return_indices=True)
    return {
        f"stability_{side}": agreement(old.labels[before], new.labels[now]) if len(now) else None
        for side, old, new in (
            ("image", last.image_clusters, targets.image_clusters),
            ("text", last.text_clusters, targets.text_clusters),
        )
    }


def _measure(image: ClusteringResult, text: ClusteringResult, num_prototypes: int) -> dict[str, Any]:
    return {
        "inertia_image": image.inertia,
        "inertia_text": text.inertia,
        "empty_image": image.num_empty,
        "empty_text": text.num_empty,
        "split_image": image.num_split,
        "split_text": text.num_split,
        "entropy_image": size_entropy(image.clusters.labels.cpu().numpy(), num_prototypes),
        "entropy_text": size_entropy(text.clusters.labels.cpu().numpy(), num_prototypes),
        "agreement": agreement(image.clusters.labels, text.clusters.labels),
    }
