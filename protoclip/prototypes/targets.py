"""From clusters to targets: Prototypical Back Translation and what an episode's losses need.

`m` pairs in the episode, `b` rows of a batch, `K` clusters, `P` projection.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .features import Shard
from .losses import Target, prototype_loss
from .means import cluster_means


@dataclass(frozen=True)
class Clusters:
    """Centroids [K, P] and the cluster of each position [m], −1 for a pair whose picture could not be read."""

    centroids: Tensor
    labels: Tensor


@dataclass(frozen=True)
class ExternalClusters:
    """An external teacher's cluster of each position [m]; `num_clusters` of them."""

    labels: Tensor
    num_clusters: int


@dataclass(frozen=True)
class EpisodeTargets:
    """All that the losses of an episode's main stage need.

    Attributes:
        number: the episode whose features were clustered; checked so that episodes are not mixed up.
        image_clusters, text_clusters: with the labels of that episode's positions.
        pairs: [m], places in the data of what was clustered, −1 for none, where it was of several episodes.
    """

    number: int
    image_clusters: Clusters
    text_clusters: Clusters
    image_from_text: Target
    text_from_image: Target
    image_from_external: Target | None
    text_from_external: Target | None
    pairs: Tensor | None = None


@dataclass(frozen=True)
class Labels:
    """The clusters [b] of a batch's rows, −1 where unknown; `external` is None without an external teacher."""

    image: Tensor
    text: Tensor
    external: Tensor | None


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
        image_from_external=_external_target(shard.image, shard.positions, external),
        text_from_external=_external_target(shard.text, shard.positions, external),
        pairs=shard.pairs,
    )


def labels_by_position(targets: EpisodeTargets, positions: Tensor, external: Tensor | None) -> Labels:
    """The clusters assigned to `positions` [b] of the episode that the targets were made from."""
    return Labels(targets.image_clusters.labels[positions], targets.text_clusters.labels[positions], external)


def labels_by_feature(targets: EpisodeTargets, image: Tensor, text: Tensor, external: Tensor | None) -> Labels:
    """The valid clusters whose centroids are nearest to the rows' projections [b, P]; no gradient."""
    return Labels(
        _nearest(image.detach(), targets.image_clusters.centroids, targets.text_from_image.valid),
        _nearest(text.detach(), targets.text_clusters.centroids, targets.image_from_text.valid),
        external,
    )


def grouping_loss(
    targets: EpisodeTargets, image: Tensor, text: Tensor, labels: Labels, scale: Tensor, temperature: float
) -> Tensor:
    """L_proto = ½ [ L(img←txt) + L(txt←img) ] for rows [b, P]."""
    image_loss = prototype_loss(image, labels.text, targets.image_from_text, scale, temperature)
    text_loss = prototype_loss(text, labels.image, targets.text_from_image, scale, temperature)
    return (image_loss + text_loss) / 2


def external_loss(
    targets: EpisodeTargets, image: Tensor, text: Tensor, labels: Labels, scale: Tensor
) -> Tensor | None:
    """L_ext = ½ [ L(img←ext) + L(txt←ext) ] with hard labels, or None without an external teacher."""
    if labels.external is None or targets.image_from_external is None or targets.text_from_external is None:
        return None
    image_loss = prototype_loss(image, labels.external, targets.image_from_external, scale, 0.0)
    text_loss = prototype_loss(text, labels.external, targets.text_from_external, scale, 0.0)
    return (image_loss + text_loss) / 2


def _nearest(features: Tensor, centroids: Tensor, valid: Tensor) -> Tensor:
    """argmax h·c − ½‖c‖² over valid clusters: centroids differ in norm, so the dot product alone is not enough."""
    half_norms = centroids.square().sum(dim=1) / 2
    scores = torch.addmm(-half_norms, features, centroids.T)
    return scores.masked_fill(~valid, torch.finfo(scores.dtype).min).argmax(dim=1)


def _target(student: Tensor, positions: Tensor, teacher: Clusters, back_translation: bool) -> Target:
    means, counts = cluster_means(student, teacher.labels[positions], len(teacher.centroids))
    valid = counts > 0
    return Target(means if back_translation else teacher.centroids, valid, teacher.centroids)


def _external_target(student: Tensor, positions: Tensor, external: ExternalClusters | None) -> Target | None:
    if external is None:
        return None
    means, counts = cluster_means(student, external.labels[positions], external.num_clusters)
    return Target(means, counts > 0, None)
