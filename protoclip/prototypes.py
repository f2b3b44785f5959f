"""From clusters to targets: Prototypical Back Translation and what an episode's losses need.

`m` pairs in the episode, `K` clusters, `P` projection.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .features import Shard
from .losses import Target, prototype_loss
from .means import cluster_means


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


def make_targets(
    number: int,
    shard: Shard,
    clusters: tuple[Clusters, Clusters],
    external: ExternalClusters | None,
    *,
    back_translation: bool,
) -> EpisodeTargets:
    """Targets of all directions, the same on every rank.

    Args:
        shard: this rank's features.
        clusters: of images and of texts, with the labels [m] of the whole episode.
    """
    image, text = clusters
    return EpisodeTargets(
        number=number,
        image_clusters=image,
        text_clusters=text,
        image_from_text=_target(shard.image, shard.positions, text, back_translation),
        text_from_image=_target(shard.text, shard.positions, image, back_translation),
        external=external,
        image_from_external=_external_target(shard.image, shard.positions, external),
        text_from_external=_external_target(shard.text, shard.positions, external),
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


def _target(student: Tensor, positions: Tensor, teacher: Clusters, back_translation: bool) -> Target:
    means, counts = cluster_means(student, teacher.labels[positions], len(teacher.centroids))
    valid = counts > 0
    return Target(means if back_translation else teacher.centroids, valid, teacher.centroids)


def _external_target(student: Tensor, positions: Tensor, external: ExternalClusters | None) -> Target | None:
    if external is None:
        return None
    means, counts = cluster_means(student, external.labels[positions], external.num_clusters)
    return Target(means, counts > 0, None)
