"""Where the features to cluster come from: an extra pass over the episode, or the bank that training filled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from protoclip.config.schema import RunConfig
from protoclip.data.episodes import Episode, Plan

from .bank import Bank
from .features import Shard

Extract = Callable[[Episode], Shard]
"""This rank's part of an episode's features, by a pass of the whole model in eval mode."""


class FeatureSource(Protocol):
    """Features to cluster before an episode of the main stage. All ranks make the same calls.

    Attributes:
        reads_pairs: whether `shard` loads the episode's pairs.
    """

    reads_pairs: bool

    def episode_of(self, number: int) -> int:
        """The episode from whose features the prototypes of episode `number` are made."""

    def shard(self, episode: Episode) -> Shard:
        """This rank's part of those features, for training on `episode`."""

    def begin(self) -> None:
        """Called when an episode's training begins."""

    def keep(self, image: Tensor, text: Tensor, positions: Tensor) -> None:
        """Projections [b, P] that a step of the episode's last repeat computed, at `positions` [b]."""

    def leave_out(self, positions: Tensor) -> None:
        """The positions [n] that such a step had no pairs for, because their pictures can't be read."""

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint needs; empty where nothing is kept."""

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Loads what `tensors` returned."""


def feature_source(config: RunConfig, plan: Plan, device: torch.device, extract: Extract) -> FeatureSource:
    """The source that `prototypes.source` names."""
    if config.prototypes.source == "stream":
        return Streamed(Bank(plan.size, config.model.head.projection_dim, device))
    return Extracted(extract)


class Extracted:
    """As in the paper: the episode's own pairs, by the whole model in eval mode, before they are trained on."""

    reads_pairs = True

    def __init__(self, extract: Extract) -> None:
        self._extract = extract

    def episode_of(self, number: int) -> int:
        return number

    def shard(self, episode: Episode) -> Shard:
        return self._extract(episode)

    def begin(self) -> None:
        pass

    def keep(self, image: Tensor, text: Tensor, positions: Tensor) -> None:
        pass

    def leave_out(self, positions: Tensor) -> None:
        pass

    def tensors(self) -> dict[str, Tensor]:
        return {}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        pass


class Streamed:
    """The previous episode's projections, from its last repeat: no second forward pass, no second decoding."""

    reads_pairs = False

    def __init__(self, bank: Bank) -> None:
        self._bank = bank

    def episode_of(self, number: int) -> int:
        return number - 1

    def shard(self, episode: Episode) -> Shard:
        return self._bank.shard()

    def begin(self) -> None:
        self._bank.clear()

    def keep(self, image: Tensor, text: Tensor, positions: Tensor) -> None:
        self._bank.keep(image, text, positions)

    def leave_out(self, positions: Tensor) -> None:
        self._bank.leave_out(positions)

    def tensors(self) -> dict[str, Tensor]:
        return self._bank.tensors()

    def restore(self, tensors: dict[str, Tensor]) -> None:
        self._bank.restore(tensors)
