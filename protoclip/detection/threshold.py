"""Where the known end: a threshold by the share of them to accept."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from protoclip.contract.errors import ConfigError, DataError

from .vectors import Scores

LEVEL = 0.95
"""Of the interval around the accepted share."""
_ROUNDING = 1e-9
"""1 - 0.9 is a little less than 0.1."""


@dataclass(frozen=True)
class Threshold:
    """Attributes:
    value: a picture with at least this score is known.
    accept: the share of known pictures to accept that was asked for.
    low: from here ...
    high: ... to here the share of all known pictures lies that is accepted, 19 times of 20.
    num: known pictures that it was made on, which the detector had not seen.
    """

    value: float
    accept: float
    low: float
    high: float
    num: int


def least_pictures(accept: float) -> int:
    """Known pictures that a threshold needs at least, for one of them to lie below it."""
    return math.ceil((1.0 - _ROUNDING) / (1.0 - accept)) - 1


def check_accept(accept: float) -> None:
    """Raises ConfigError for a share that is no threshold's."""
    if not 0.5 <= accept < 1.0:
        raise ConfigError(f"accept={accept} is out of range: use 0.5 up to 0.999, such as 0.95")


def find_threshold(scores: Scores, accept: float = 0.95, *, given: bool = False) -> Threshold:
    """The score at the rank that accepts the wanted share of unseen known pictures on average.

    That is the `⌊(1 - accept)(n + 1)⌋`-th smallest of `n` (Vovk, Gammerman and Shafer 2005: split conformal
    prediction); the share accepted is Beta-distributed then, from which the interval comes.

    Args:
        scores: `[n]` of known pictures that the detector was not fit on.
        accept: 0.5 up to, not including, 1.
        given: whether the pictures were given for the threshold alone, and not held out; for the message.

    Raises:
        ConfigError: `accept` is out of range.
        DataError: too few scores for it.
    """
    check_accept(accept)
    num = len(scores)
    rank = math.floor((1.0 - accept) * (num + 1) + _ROUNDING)
    if rank < 1:
        origin, of = ("given", "") if given else ("held out", " of classes with two pictures or more")
        raise DataError(
            f"{num} known pictures are {origin}, too few to accept {accept:.1%} of them: give at least "
            f"{least_pictures(accept)}{of}, or a lower share"
        )
    value = float(np.partition(scores, rank - 1)[rank - 1])
    low, high = _share_interval(rank, num)
    return Threshold(value, accept, low, high, num)


def _share_interval(rank: int, num: int, draws: int = 100_000) -> tuple[float, float]:
    """Quantiles of Beta(num + 1 - rank, rank)."""
    shares = np.random.default_rng(0).beta(num + 1 - rank, rank, draws)
    low, high = np.quantile(shares, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
