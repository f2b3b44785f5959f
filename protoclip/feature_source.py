"""Where an episode's prototypes come from: features of an extra pass, or those that training left in the bank."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from torch import Tensor

from . import distributed
from .bank import Bank
from .data.batches import Requests
from .episode import Episode, requests_for
from .features import Shard, extract
from .setup import Session
from .towers import Towers


class FeatureSource(Protocol):
    """Features to cluster before an episode of the main stage. All ranks make the same calls."""

    def episode_of(self, number: int) -> int:
        """The episode whose features the prototypes of episode `number` are made of."""

    def shard(self, episode: Episode) -> Shard:
        """This rank's part of those features, for training on `episode`."""

    def begin(self) -> None:
        """An episode's training begins."""

    def keep(self, image: Tensor, text: Tensor, positions: Tensor) -> None:
        """Projections [b, P] that a step of the episode's last repeat computed, at `positions` [b]."""

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint needs; empty where nothing is kept."""

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Takes what `tensors` gave."""


def feature_source(session: Session) -> FeatureSource:
    """The one that `prototypes.source` names."""
    return Streamed(session) if session.config.prototypes.source == "stream" else Extracted(session)


class Extracted:
    """The paper's: the episode's own pairs, by the whole model in eval mode, before they are trained on."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def episode_of(self, number: int) -> int:
        return number

    def shard(self, episode: Episode) -> Shard:
        session = self._session
        distributed.share_buffers(session.module)
        batches = session.loader.stream(self._requests(episode), session.config.train.num_workers)
        towers = Towers(session.module, session.config.train.precision)
        return extract(towers, session.heads, batches, session.pipeline)

    def _requests(self, episode: Episode) -> list[Requests]:
        # Ranks hold runs of positions: their features, one rank after another, are in one order on any number.
        plan, repeats = self._session.plan, self._session.config.episode.repeats
        own = distributed.own_run(np.arange(plan.size))
        return [requests_for(episode, rows, 0, repeats) for rows in own.reshape(plan.num_batches, -1)]

    def begin(self) -> None:
        pass

    def keep(self, image: Tensor, text: Tensor, positions: Tensor) -> None:
        pass

    def tensors(self) -> dict[str, Tensor]:
        return {}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        pass


class Streamed:
    """The episode before, as its last repeat projected it: no second forward pass, no second decoding."""

    def __init__(self, session: Session) -> None:
        self._bank = Bank(session.plan.size, session.config.model.head.projection_dim, session.device)

    def episode_of(self, number: int) -> int:
        return number - 1

    def shard(self, episode: Episode) -> Shard:
        return self._bank.shard()

    def begin(self) -> None:
        self._bank.clear()

    def keep(self, image: Tensor, text: Tensor, positions: Tensor) -> None:
        self._bank.keep(image, text, positions)

    def tensors(self) -> dict[str, Tensor]:
        return self._bank.tensors()

    def restore(self, tensors: dict[str, Tensor]) -> None:
        self._bank.restore(tensors)
