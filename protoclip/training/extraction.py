"""Features of an episode by a pass of its own, each rank its share of the pairs."""

from __future__ import annotations

import numpy as np
from torch import nn

from protoclip.data.episodes import Episode
from protoclip.data.training_set import TrainingSet
from protoclip.distributed import collectives
from protoclip.prototypes.features import Shard, extract
from protoclip.prototypes.heads import Heads

from .towers import Towers


def extract_episode(module: nn.Module, heads: Heads, data: TrainingSet, precision: str, episode: Episode) -> Shard:
    """h_image and h_text of this rank's run of positions, [n, P] each, by the whole model in eval mode.

    Module and heads are left in eval mode: the caller enters its stage again. All ranks call it.

    Args:
        precision: that the towers compute in, as `train.precision` says.
    """
    collectives.share_buffers(module)
    # Ranks hold runs of positions: their features, one rank after another, are in one order on any number.
    own = collectives.own_run(np.arange(data.plan.size))
    batches = data.batches(episode, list(own.reshape(data.plan.num_batches, -1)))
    return extract(Towers(module, precision), heads, batches, data.pipeline)
