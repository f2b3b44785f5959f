"""An episode's targets: all its pairs projected, both sides clustered, the centroids translated.

`m` pairs in the episode, `B` in a batch, `P` projection.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .clustering import ClusteringResult, agreement, kmeans
from .data.batches import Requests
from .data.draws import torch_seed
from .episode import Episode
from .evaluation.clusters import size_entropy
from .features import extract
from .prototypes import EpisodeTargets, ExternalClusters, make_targets
from .setup import Session


def requests_for(episode: Episode, positions: NDArray[np.int64], repeat: int, repeats: int) -> Requests:
    """What to load for the `positions` [B] of an episode that is gone through `repeats` times."""
    return Requests(positions, episode.indices[positions], episode.visits[positions] * repeats + repeat)


def cluster_episode(session: Session, episode: Episode) -> tuple[EpisodeTargets, dict[str, Any]]:
    """The targets of an episode, and what was measured on the way, for the metrics."""
    started = time.monotonic()
    image, text = _project(session, episode)
    extracted = time.monotonic()
    image_result = _cluster(session, image, episode, "image")
    text_result = _cluster(session, text, episode, "text")
    targets = make_targets(
        episode.number,
        image,
        text,
        (image_result.clusters, text_result.clusters),
        _external(session, episode),
        back_translation=session.config.loss.back_translation,
    )
    seconds = {"seconds_extract": extracted - started, "seconds_cluster": time.monotonic() - extracted}
    return targets, {**_measure(image_result, text_result, session.num_prototypes), **seconds}


def _project(session: Session, episode: Episode) -> tuple[torch.Tensor, torch.Tensor]:
    order = np.arange(session.plan.size).reshape(session.plan.num_batches, -1)
    repeats = session.config.episode.repeats
    requests = [requests_for(episode, positions, 0, repeats) for positions in order]
    batches = session.loader.stream(requests, session.config.train.num_workers)
    return extract(session.module, session.heads, batches, session.pipeline, session.plan.size)


def _cluster(session: Session, features: torch.Tensor, episode: Episode, side: str) -> ClusteringResult:
    config = session.config
    return kmeans(
        features,
        session.num_prototypes,
        num_iterations=config.clustering.num_iterations,
        num_restarts=config.clustering.num_restarts,
        spherical=config.clustering.spherical,
        seed=torch_seed(config.train.seed, f"clusters of {side}", episode.number),
    )


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
        "entropy_image": size_entropy(image.clusters.labels.cpu().numpy(), num_prototypes),
        "entropy_text": size_entropy(text.clusters.labels.cpu().numpy(), num_prototypes),
        "agreement": agreement(image.clusters.labels, text.clusters.labels),
    }
