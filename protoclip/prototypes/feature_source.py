"""Where the features to cluster come from: an extra pass over the episode, or what training projected."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from protoclip.config.schema import RunConfig
from protoclip.data.episodes import Episode, Plan

from .bank import Bank
from .features import Shard
from .window import Window


@dataclass(frozen=True)
class Kept:
    """What a step of training was.

    Attributes:
        step: its number from 0 on.
        episode: that was trained on.
        last_repeat: whether each of the episode's pairs comes for the last time.
    """

    step: int
    episode: Episode
    last_repeat: bool


Extract = Callable[[Episode], Shard]
"""This rank's part of an episode's features, by a pass of the whole model in eval mode."""


class FeatureSource(Protocol):
    """Features to cluster before an episode of the main stage. All ranks make the same calls.

    Attributes:
        reads_pairs: whether `shard` loads the episode's pairs.
        refresh_steps: prototypes are made anew every so many steps; None: before each episode.
    """

    reads_pairs: bool
    refresh_steps: int | None

    def episode_of(self, number: int) -> int:
        """The episode from whose features the prototypes of episode `number` are made."""

    def shard(self, episode: Episode) -> Shard:
        """This rank's part of those features, for training on `episode`."""

    def begin(self) -> None:
        """Called when an episode's training begins."""

    def keep(self, image: Tensor, text: Tensor, positions: Tensor, kept: Kept) -> None:
        """Projections [b, P] that a step computed, at `positions` [b]."""

    def leave_out(self, positions: Tensor) -> None:
        """The positions [n] that a step of the last repeat had no pairs for: their pictures can't be read."""

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint needs; empty where nothing is kept."""

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Loads what `tensors` returned."""


def feature_source(config: RunConfig, plan: Plan, device: torch.device, extract: Extract) -> FeatureSource:
    """The source that the section `prototypes` names."""
    dim, refresh_steps = config.model.head.projection_dim, config.prototypes.refresh_steps
    if config.prototypes.source == "stream" and refresh_steps is not None:
        return Renewed(Window(plan.size, dim, device), refresh_steps)
    if config.prototypes.source == "stream":
        return Streamed(Bank(plan.size, dim, device))
    return Extracted(extract)


class Extracted:
    """As in the paper: the episode's own pairs, by the whole model in eval mode, before they are trained on."""

    reads_pairs = True
    refresh_steps: int | None = None

    def __init__(self, extract: Extract) -> None:
        self._extract = extract

    def episode_of(self, number: int) -> int:
        return number

    def shard(self, episode: Episode) -> Shard:
        return self._extract(episode)

    def begin(self) -> None:
        pass

    def keep(self, image: Tensor, text: Tensor, positions: Tensor, kept: Kept) -> None:
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
    refresh_steps: int | None = None

    def __init__(self, bank: Bank) -> None:
        self._bank = bank

    def episode_of(self, number: int) -> int:
        return number - 1

    def shard(self, episode: Episode) -> Shard:
        return self._bank.shard()

    def begin(self) -> None:
        self._bank.clear()

    def keep(self, image: Tensor, text: Tensor, positions: Tensor, kept: Kept) -> None:
        if kept.last_repeat:
            self._bank.keep(image, text, positions)

    def leave_out(self, positions: Tensor) -> None:
        self._bank.leave_out(positions)

    def tensors(self) -> dict[str, Tensor]:
        return self._bank.tensors()

    def restore(self, tensors: dict[str, Tensor]) -> None:
        self._bank.restore(tensors)


class Renewed:
    """The latest projection at each position, clustered every `refresh_steps` steps of the main stage."""

    reads_pairs = False

    def __init__(self, window: Window, refresh_steps: int) -> None:
        self._window, self._every = window, refresh_steps
        self.refresh_steps: int | None = refresh_steps

    def episode_of(self, number: int) -> int:
        return number

    def shard(self, episode: Episode) -> Shard:
        return self._window.shard(self._every)

    def begin(self) -> None:
        pass

    def keep(self, image: Tensor, text: Tensor, positions: Tensor, kept: Kept) -> None:
        pairs = torch.from_numpy(kept.episode.indices).to(positions.device)[positions]
        self._window.keep(image, text, positions, pairs, kept.step)

    def leave_out(self, positions: Tensor) -> None:
        # The projection of the pair that was there before stays.
        pass

    def tensors(self) -> dict[str, Tensor]:
        return self._window.tensors()

    def restore(self, tensors: dict[str, Tensor]) -> None:
        self._window.restore(tensors)
