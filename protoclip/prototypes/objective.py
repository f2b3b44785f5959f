"""The prototype part of the objective for one batch.

`b` rows of a batch on this rank, `P` projection.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from protoclip.config.schema import LossConfig, PrototypesConfig

from .targets import (
    EpisodeTargets,
    external_loss,
    grouping_loss,
    labels_by_feature,
    labels_by_position,
)


@dataclass(frozen=True)
class Rows:
    """A batch's rows on this rank, apart from their features.

    Attributes:
        positions: [b], in the episode that is trained on.
        external: [b], their clusters by an external teacher; None without one.
        classes: [b], their classes, -1 where a picture has none; None without classes.
    """

    positions: Tensor
    external: Tensor | None
    classes: Tensor | None = None


@dataclass(frozen=True)
class PrototypeLosses:
    """L_proto, and L_ext or None without an external teacher; scalars."""

    proto: Tensor
    external: Tensor | None


class PrototypeObjective:
    """L_proto and L_ext as the configuration's sections `prototypes` and `loss` say."""

    def __init__(self, prototypes: PrototypesConfig, loss: LossConfig) -> None:
        # Streamed targets come from the previous episode, in which the positions held other pairs.
        self._by_feature = prototypes.source == "stream"
        self._temperature = loss.target_temperature

    def losses(
        self, targets: EpisodeTargets, h_image: Tensor, h_text: Tensor, rows: Rows, scale: Tensor
    ) -> PrototypeLosses:
        """The losses of projections [b, P] of unit norm; `scale` is s_proto.

        Rows whose cluster is not valid are left out; where no row is left a loss is 0, with zero gradient.
        """
        if self._by_feature:
            labels = labels_by_feature(targets, h_image, h_text, rows.external)
        else:
            labels = labels_by_position(targets, rows.positions, rows.external)
        return PrototypeLosses(
            grouping_loss(targets, h_image, h_text, labels, scale, self._temperature),
            external_loss(targets, h_image, h_text, labels, scale),
        )
