"""What is sent when: a pure function of a seed. `n` items in a request."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass

from protoclip.client.embedder import Role

BROKEN = -1
"""In place of a picture's number: one that the server has to refuse."""


@dataclass(frozen=True)
class Mix:
    """What requests hold.

    Attributes:
        num_images, num_texts: how many different inputs there are; 0 where none of the kind is sent.
        image_share: of requests, from 0 to 1; the others hold texts.
        broken_share: of pictures, from 0 to 1.
        batch_size: items in a request, n.
    """

    num_images: int
    num_texts: int
    image_share: float = 1.0
    broken_share: float = 0.0
    batch_size: int = 1


@dataclass(frozen=True)
class Planned:
    """One request.

    Attributes:
        start_s: when it should be sent, from the beginning; None: as soon as a client is free.
        numbers: `[n]` of its inputs, or BROKEN.
    """

    start_s: float | None
    role: Role
    numbers: tuple[int, ...]


def poisson_starts(rate: float, end_s: float, seed: int) -> Iterator[float]:
    """Starts in seconds, ascending, below `end_s`: independent arrivals, `rate` a second on average."""
    draw = random.Random(f"starts {seed}")
    start_s = draw.expovariate(rate)
    while start_s < end_s:
        yield start_s
        start_s += draw.expovariate(rate)


def plan_open(rate: float, end_s: float, mix: Mix, seed: int) -> Iterator[Planned]:
    """Requests at Poisson arrivals; the same ones for the same arguments."""
    draw = random.Random(f"mix {seed}")
    for start_s in poisson_starts(rate, end_s, seed):
        yield _request(start_s, mix, draw)


def plan_closed(mix: Mix, seed: int) -> Iterator[Planned]:
    """Requests without an end and without times: the same ones for the same arguments."""
    draw = random.Random(f"mix {seed}")
    for _ in itertools.count():
        yield _request(None, mix, draw)


def _request(start_s: float | None, mix: Mix, draw: random.Random) -> Planned:
    if draw.random() >= mix.image_share:
        return Planned(start_s, "text", tuple(draw.randrange(mix.num_texts) for _ in range(mix.batch_size)))
    numbers = []
    for _ in range(mix.batch_size):
        number = draw.randrange(mix.num_images)
        numbers.append(BROKEN if draw.random() < mix.broken_share else number)
    return Planned(start_s, "image", tuple(numbers))
