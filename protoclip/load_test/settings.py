"""What a run is asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass

from protoclip.contract.errors import ConfigError

MAX_CLIENTS = 1024
MAX_DURATION_S = 86_400.0
MAX_RATE = 100_000.0


@dataclass(frozen=True)
class Load:
    """The load and how long it lasts.

    Attributes:
        clients: requests at once: in a closed loop always so many, in an open one at most.
        rate: requests a second of an open loop, on average; None for a closed one.
        duration_s: what is measured, after `warmup_s` seconds that are not.
        timeout_s: for each request.
        image_share: of the requests; the others hold texts.
        broken_share: of the pictures.
        batch_size: items in a request.
        bulk: whether requests are marked as bulk instead of interactive.
        seed: of arrivals and contents.

    Raises:
        ConfigError: a value is out of its range, or broken pictures are asked for and no pictures.
    """

    clients: int = 8
    rate: float | None = None
    duration_s: float = 10.0
    warmup_s: float = 2.0
    timeout_s: float = 30.0
    image_share: float = 1.0
    broken_share: float = 0.0
    batch_size: int = 1
    bulk: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        _check("clients", self.clients, 1, MAX_CLIENTS)
        _check("batch_size", self.batch_size, 1, MAX_CLIENTS)
        _check("duration_s", self.duration_s, 0.1, MAX_DURATION_S)
        _check("warmup_s", self.warmup_s, 0, MAX_DURATION_S)
        _check("timeout_s", self.timeout_s, 0.001, MAX_DURATION_S)
        _check("image_share", self.image_share, 0, 1)
        _check("broken_share", self.broken_share, 0, 1)
        if self.rate is not None:
            _check("rate", self.rate, 0.001, MAX_RATE)
        if self.broken_share and not self.image_share:
            raise ConfigError(
                "broken_share is a share of the pictures, and image_share=0 sends none: leave one out"
            )

    @property
    def end_s(self) -> float:
        """Seconds from the beginning to the end of what is measured."""
        return self.warmup_s + self.duration_s


def _check(name: str, value: float, low: float, high: float) -> None:
    if not (math.isfinite(value) and low <= value <= high):
        raise ConfigError(f"{name}={value:g} must be from {low:g} to {high:g}")
