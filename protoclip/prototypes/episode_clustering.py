"""Clusters and targets of a run's episodes, as the run's configuration says.

`N` pairs, `m` pairs in an episode, `K` prototypes, `P` projection.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from protoclip.config.schema import RunConfig
from protoclip.contract.errors import ConfigError, DataError
from protoclip.data.episodes import Plan
from protoclip.data.random_numbers import torch_seed
from protoclip.distributed import collectives
from protoclip.evaluation.clusters import size_entropy
from protoclip.sources import Pairs

from .clustering import ClusteringResult, agreement, cluster
from .features import Shard
from .following import follow
from .momentum import with_momentum
from .targets import Clusters, EpisodeTargets, ExternalClusters, make_targets
from .teacher import load_teacher, num_teacher_prototypes, own_run, teacher_labels


@dataclasses.dataclass(frozen=True)
class EpisodeClustering:
    """Makes the targets of one episode after the other. All ranks make the same calls.

    Attributes:
        num_prototypes: K, of images and of texts.
        external_labels: y_ext of each training pair, [N]; None without an external teacher.
    """

    config: RunConfig
    plan: Plan
    device: torch.device
    num_prototypes: int
    external_labels: NDArray[np.int32] | None

    def targets(
        self, number: int, shard: Shard, last: EpisodeTargets | None, draw: int | None = None
    ) -> tuple[EpisodeTargets, dict[str, Any]]:
        """The targets made from an episode's features, and the measurements for the metrics.

        Args:
            number: the episode that the features are of.
            last: the previous targets: the initial centroids of a warm start, and the reference of label churn.
            draw: says which random numbers are drawn; None: `number`.

        Raises:
            FloatingPointError: a feature is NaN or infinite.
        """
        started = time.monotonic()
        starts: tuple[Clusters | None, Clusters | None] = (None, None)
        if last is not None and self._starts_warm:
            starts = last.image_clusters, last.text_clusters
        draw = number if draw is None else draw
        image = self._cluster(shard.image, shard, draw, "image", starts[0])
        text = self._cluster(shard.text, shard, draw, "text", starts[1])
        targets = make_targets(
            number,
            shard,
            (image.clusters, text.clusters),
            self._external(number, shard.pairs),
            back_translation=self.config.loss.back_translation,
        )
        measured = _measure(image, text, self.num_prototypes) | self._churn(targets, last)
        return targets, measured | {"seconds_cluster": time.monotonic() - started}

    @property
    def num_external(self) -> int | None:
        """Clusters of the external teacher's features; None without one."""
        labels = self.external_labels
        return None if labels is None else num_teacher_prototypes(self.config.teacher, len(labels))

    def pairs_of(self, targets: EpisodeTargets) -> NDArray[np.int64]:
        """Places in the data of what was clustered, [m]; −1 at positions that held nothing."""
        if targets.pairs is not None:
            return targets.pairs.cpu().numpy()
        return self.plan.episode(targets.number).indices

    def external(self, number: int) -> Tensor | None:
        """y_ext of each position [m] of an episode, on the device; None without an external teacher."""
        if self.external_labels is None:
            return None
        labels = self.external_labels[self.plan.episode(number).indices]
        return torch.from_numpy(labels.astype(np.int64)).to(self.device)

    @property
    def _starts_warm(self) -> bool:
        wanted = self.config.clustering.warm_start
        return self.config.prototypes.source == "stream" if wanted is None else wanted

    def _cluster(
        self, features: Tensor, shard: Shard, draw: int, side: str, last: Clusters | None
    ) -> ClusteringResult:
        """K-means, with the labels of the whole episode; −1 at positions without features."""
        config, settings = self.config.prototypes, self.config.clustering
        start = None if last is None else last.centroids
        if last is not None:
            iterations = settings.warm_iterations or settings.num_iterations
            settings = settings.model_copy(update={"num_iterations": iterations})
        if last is not None and shard.is_new is not None and config.refresh_rows == "trained":
            before = Clusters(last.centroids, last.labels[shard.positions])
            found = follow(
                features,
                before,
                shard.is_new,
                num_iterations=settings.num_iterations,
                spherical=settings.spherical,
            )
        else:
            seed = torch_seed(self.config.train.seed, f"clusters of {side}", draw)
            found = cluster(features, self.num_prototypes, settings, seed, start)
        clusters = found.clusters
        if config.momentum > 0 and start is not None:
            clusters = with_momentum(clusters, start, features, config.momentum, spherical=settings.spherical)
        labels = collectives.fill(clusters.labels + 1, shard.positions, self.plan.size) - 1
        num_empty = self.num_prototypes - len(labels[labels >= 0].unique())
        return dataclasses.replace(found, clusters=Clusters(clusters.centroids, labels), num_empty=num_empty)

    def _external(self, number: int, pairs: Tensor | None) -> ExternalClusters | None:
        if self.external_labels is None or self.num_external is None:
            return None
        if pairs is None:
            labels = self.external(number)
        else:
            known = torch.from_numpy(self.external_labels).to(pairs.device, torch.int64)
            labels = torch.where(pairs >= 0, known[pairs.clamp(min=0)], -1)
        return None if labels is None else ExternalClusters(labels, self.num_external)

    def _churn(self, targets: EpisodeTargets, last: EpisodeTargets | None) -> dict[str, float | None]:
        """Normalised mutual information of the labels with the last ones, over the pairs in both episodes.

        1 where no label changed; None where no pair has one in both, for instance where an episode is a small part
        of the data.
        """
        if last is None:
            return {"stability_image": None, "stability_text": None}
        last_pairs, pairs = (self.pairs_of(made) for made in (last, targets))
        _, before, now = np.intersect1d(last_pairs, pairs, return_indices=True)
        return {
            f"stability_{side}": _agreement_of_known(old.labels[before], new.labels[now])
            for side, old, new in (
                ("image", last.image_clusters, targets.image_clusters),
                ("text", last.text_clusters, targets.text_clusters),
            )
        }


def build_clustering(
    config: RunConfig,
    pairs: Pairs,
    plan: Plan,
    device: torch.device,
    external_labels: NDArray[np.int32] | None = None,
) -> EpisodeClustering:
    """Checks the number of prototypes, and clusters the external teacher's features, where there is one.

    Args:
        external_labels: y_ext of a run that is resumed, [N], instead of the teacher's clustered again: another
            number of ranks or threads could give other ids, and the targets of the episode under way have the old.

    Raises:
        ConfigError: more prototypes than pairs, or settings of prototypes that do not go together.
        DataError: the teacher's features can't be read, or don't fit the data.
    """
    _check_settings(config)
    external = external_labels
    features = load_teacher(config.teacher, pairs, own_run(len(pairs))) if external is None else None
    if external is not None and len(external) != len(pairs):
        raise DataError(
            f"the run's teacher has clusters of {len(external)} pairs, but there are {len(pairs)}: its features "
            "were clustered once, and those of other pairs would be other clusters in the middle of the "
            "run: bring the old data back, or train anew with another --out, from its last checkpoint's weights"
        )
    if features is not None:
        seed = torch_seed(config.train.seed, "teacher")
        external = teacher_labels(features, len(pairs), config.teacher, config.clustering, seed, device)
    return EpisodeClustering(config, plan, device, _num_prototypes(config, plan), external)


def _check_settings(config: RunConfig) -> None:
    prototypes, warm = config.prototypes, config.clustering.warm_start
    if prototypes.refresh_steps is not None and prototypes.source != "stream":
        raise ConfigError(
            f"prototypes.refresh_steps={prototypes.refresh_steps} is for prototypes.source='stream', and an "
            "extraction would read the whole episode again: set that, or make episode.size smaller"
        )
    if prototypes.refresh_rows == "trained" and (prototypes.refresh_steps is None or prototypes.momentum > 0):
        raise ConfigError(
            "prototypes.refresh_rows='trained' is for prototypes.refresh_steps, and without prototypes.momentum, "
            "after which every row's cluster is sought anew: set the one, leave the other out, or take 'all'"
        )
    is_warm = prototypes.source == "stream" if warm is None else warm
    if prototypes.refresh_rows == "trained" and not is_warm:
        raise ConfigError(
            "prototypes.refresh_rows='trained' follows the last clusters: set clustering.warm_start=true"
        )
    if prototypes.momentum > 0 and not is_warm:
        raise ConfigError(
            f"prototypes.momentum={prototypes.momentum:g} needs clusters in the order of the last ones: set "
            "clustering.warm_start=true, or it to 0"
        )


def _num_prototypes(config: RunConfig, plan: Plan) -> int:
    wanted = config.clustering.num_prototypes or max(2, plan.size // 10)
    if wanted > plan.size:
        raise ConfigError(
            f"clustering.num_prototypes={wanted} needs at least {wanted} pairs, but an episode has {plan.size}: "
            "lower the one or raise episode.size"
        )
    return wanted


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
        "agreement": _agreement_of_known(image.clusters.labels, text.clusters.labels),
    }


def _agreement_of_known(first: Tensor, second: Tensor) -> float | None:
    """`agreement` over the positions that have a label in both; None where none has."""
    known = (first >= 0) & (second >= 0)
    return agreement(first[known], second[known]) if bool(known.any()) else None
