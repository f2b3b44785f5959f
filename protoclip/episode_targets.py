"""An episode's targets: all its pairs projected, both sides clustered, the centroids translated.

`m` pairs in the episode, `B` in a batch, `P` projection.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import distributed
from .clustering import ClusteringResult, agreement, cluster
from .data.batches import Requests
from .data.draws import torch_seed
from .episode import Episode
from .evaluation.clusters import size_entropy
from .features import Shard, extract
from .prototypes import Clusters, EpisodeTargets, ExternalClusters, make_targets
from .setup import Session


def requests_for(episode: Episode, positions: NDArray[np.int64], repeat: int, repeats: int) -> Requests:
    """What to load for the `positions` [B] of an episode that is gone through `repeats` times."""
    return Requests(positions, episode.indices[positions], episode.visits[positions] * repeats + repeat)


def own_rows(positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """This rank's part of what is shared out in equal runs."""
    return positions.reshape(distributed.world_size(), -1)[distributed.rank()]


def cluster_episode(session: Session, episode: Episode) -> tuple[EpisodeTargets, dict[str, Any]]:
    """The targets of an episode, and what was measured on the way, for the metrics."""
    started = time.monotonic()
    shard = _project(session, episode)
    extracted = time.monotonic()
    image = _cluster(session, shard.image, shard.positions, episode, "image")
    text = _cluster(session, shard.text, shard.positions, episode, "text")
    targets = make_targets(
        episode.number,
        shard,
        (image.clusters, text.clusters),
        _external(session, episode),
        back_translation=session.config.loss.back_translation,
    )
    seconds = {"seconds_extract": extracted - started, "seconds_cluster": time.monotonic() - extracted}
    return targets, {**_measure(image, text, session.num_prototypes), **seconds}


def _project(session: Session, episode: Episode) -> Shard:
    # Ranks hold runs of positions: their features, one rank after another, are in one order on any number.
    own = own_rows(np.arange(session.plan.size)).reshape(session.plan.num_batches, -1)
    repeats = session.config.episode.repeats
    requests = [requests_for(episode, positions, 0, repeats) for positions in own]
    batches = session.loader.stream(requests, session.config.train.num_workers)
    return extract(session.module, session.heads, batches, session.pipeline)


def _cluster(
    session: Session, features: Tensor, positions: Tensor, episode: Episode, side: str
) -> ClusteringResult:
    """K-means, with the labels of the whole episode."""
    config = session.config
    seed = torch_seed(config.train.seed, f"clusters of {side}", episode.number)
    found = cluster(features, session.num_prototypes, config.clustering, seed)
    labels = distributed.fill(found.clusters.labels, positions, session.plan.size)
    return dataclasses.replace(found, clusters=Clusters(found.clusters.centroids, labels))


def _external(session: Session, episode: Episode) -> ExternalClusters | None:
    labels = session.external_labels
    if labels is None:
        return None
    of_positions = torch.from_numpy(labels[episode.indices]).to(session.device)
    return ExternalClusters(of_positions, session.config.teacher.num_prototypes)


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
