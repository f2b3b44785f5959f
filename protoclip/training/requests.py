"""What a run asks its data for, in its order, so that what is prepared ahead is what will be taken."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from protoclip.data.batches import Requests
from protoclip.data.episodes import Episode, requests_for
from protoclip.data.training_set import TrainingSet
from protoclip.distributed import collectives

from .checkpoint import Position
from .optim import Schedule


def extraction_requests(data: TrainingSet, episode: Episode) -> list[Requests]:
    """This rank's shard of an episode's pairs, in batches.

    Each rank has consecutive positions: concatenated in rank order, features are in the same order on any number
    of ranks.
    """
    own = collectives.own_run(np.arange(data.plan.size)).reshape(data.plan.num_batches, -1)
    return [requests_for(episode, rows, 0, data.repeats) for rows in own]


def training_requests(data: TrainingSet, schedule: Schedule, position: Position) -> list[Requests]:
    """This rank's share of the batches of an episode from `position` on, up to the last step of the run."""
    episode = data.plan.episode(position.episode)
    requests = [
        requests_for(episode, collectives.own_run(positions), repeat, data.repeats, data.views)
        for repeat in range(data.repeats)
        for positions in data.plan.batches(episode, repeat)
    ]
    first_step = position.step - position.batch
    return requests[position.batch : min(schedule.steps_per_episode, schedule.num_steps - first_step)]


def requests_ahead(
    data: TrainingSet, schedule: Schedule, position: Position, is_extracted: Callable[[int], bool]
) -> Iterator[Requests]:
    """All that the run asks for from `position` on, unless validation ends it earlier.

    Args:
        is_extracted: whether the episode of this number begins with an extraction.
    """
    while position.step < schedule.num_steps:
        if is_extracted(position.episode):
            yield from extraction_requests(data, data.plan.episode(position.episode))
        requests = training_requests(data, schedule, position)
        yield from requests
        position = Position(step=position.step + len(requests), episode=position.episode + 1)
