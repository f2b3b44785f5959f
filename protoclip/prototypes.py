"""From clusters to targets: Prototypical Back Translation and what an episode's losses need.

`m` pairs in the episode, `K` clusters, `P` projection.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from . import distributed
from .losses import Target, prototype_loss


@dataclass(frozen=True)
class Clusters:
    """Centroids [K, P] and the cluster of each position [m]."""

    centroids: Tensor
    labels: Tensor


@dataclass(frozen=True)
class ExternalClusters:
    """An external teacher's cluster of each position [m]; `num_clusters` of them."""

    labels: Tensor
    num_clusters: int


@dataclass(frozen=True)
class EpisodeTargets:
    """All that the losses of an episode's main stage need; `number` guards against mixing episodes."""

    number: int
    image_clusters: Clusters
    text_clusters: Clusters
    image_from_text: Target
    text_from_image: Target
    external: ExternalClusters | None
    image_from_external: Target | None
    text_from_external: Target | None


def back_translate(features: Tensor, labels: Tensor, num_clusters: int) -> tuple[Tensor, Tensor]:
    """Means of the student's features over the members of the teacher's clusters.

    Args:
        features: [n, P], this rank's shard of the episode.
        labels: [n], the teacher's clusters; −1 is left out.

    Returns:
        S [K, P] (a row of an empty cluster is zero and must be masked) and the counts [K], over all ranks.
    """
    known = labels >= 0
    sums = features.new_zeros(num_clusters, features.shape[1], dtype=torch.float64)
    counts = torch.zeros(num_clusters, dtype=torch.int64, device=features.device)
    sums.index_add_(0, labels[known], features[known].double())
    counts.index_add_(0, labels[known], torch.ones_like(labels[known]))
    sums, counts = distributed.all_reduce_sum(sums), distributed.all_reduce_sum(counts)
    return (sums / counts.clamp(min=1).unsqueeze(1)).to(features.dtype), counts


def make_targets(
    number: int,
    image_features: Tensor,
    text_features: Tensor,
    clusters: tuple[Clusters, Clusters],
    external: ExternalClusters | None,
    *,
    back_translation: bool,
) -> EpisodeTargets:
    """Targets of all directions from the episode's features [n, P] and (image, text) clusters."""
    image, text = clusters
    return EpisodeTargets(
        number=number,
        image_clusters=image,
        text_clusters=text,
        image_from_text=_target(image_features, text, back_translation),
        text_from_image=_target(text_features, image, back_translation),
        external=external,
        image_from_external=_external_target(image_features, external),
        text_from_external=_external_target(text_features, external),
    )


def grouping_loss(
    targets: EpisodeTargets, image: Tensor, text: Tensor, positions: Tensor, scale: Tensor, temperature: float
) -> Tensor:
    """L_proto = ½ [ L(img←txt) + L(txt←img) ] for rows [b, P] at `positions` [b] of the episode."""
    from_text = targets.text_clusters.labels[positions]
    from_image = targets.image_clusters.labels[positions]
    image_loss = prototype_loss(image, from_text, targets.image_from_text, scale, temperature)
    text_loss = prototype_loss(text, from_image, targets.text_from_image, scale, temperature)
    return (image_loss + text_loss) / 2


def external_loss(
    targets: EpisodeTargets, image: Tensor, text: Tensor, positions: Tensor, scale: Tensor
) -> Tensor | None:
    """L_ext = ½ [ L(img←ext) + L(txt←ext) ] with hard labels, or None without an external teacher."""
    if targets.external is None or targets.image_from_external is None or targets.text_from_external is None:
        return None
    labels = targets.external.labels[positions]
    image_loss = prototype_loss(image, labels, targets.image_from_external, scale, 0.0)
    text_loss = prototype_loss(text, labels, targets.text_from_external, scale, 0.0)
    return (image_loss + text_loss) / 2


def _target(student: Tensor, teacher: Clusters, back_translation: bool) -> Target:
    num_clusters = len(teacher.centroids)
    means, counts = back_translate(student, teacher.labels, num_clusters)
    valid = counts > 0
    return Target(means if back_translation else teacher.centroids, valid, teacher.centroids)


def _external_target(student: Tensor, external: ExternalClusters | None) -> Target | None:
    if external is None:
        return None
    means, counts = back_translate(student, external.labels, external.num_clusters)
    return Target(means, counts > 0, None)
