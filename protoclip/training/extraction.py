"""Features of an episode by a separate forward pass; each rank takes its shard of the pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

from protoclip.data.episodes import Episode
from protoclip.data.training_set import TrainingSet
from protoclip.distributed import collectives
from protoclip.prototypes.features import Shard, extract
from protoclip.prototypes.heads import Heads

from .requests import extraction_requests
from .towers import Towers


def extract_episode(
    module: nn.Module,
    heads: Heads,
    data: TrainingSet,
    precision: str,
    counted: Callable[[Iterator[Any], int], Iterator[Any]],
    episode: Episode,
) -> Shard:
    """h_image and h_text of this rank's shard, [n, P] each, without the pairs whose pictures can't be read.

    By the whole model in eval mode.

    Module and heads are left in eval mode: the caller must enter its stage again. All ranks call it.

    Args:
        precision: of the towers, as in `train.precision`.
        counted: wraps the iterator of batches, whose number it takes too.
    """
    collectives.share_buffers(module)
    batches = data.stream(extraction_requests(data, episode))
    return extract(Towers(module, precision), heads, counted(batches, data.plan.num_batches), data.pipeline)
