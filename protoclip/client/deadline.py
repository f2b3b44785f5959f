"""One time budget for a whole call, and retries within it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from .errors import DeadlineExceeded, Unavailable

T = TypeVar("T")

_ATTEMPTS = 4
_FIRST_PAUSE_S = 0.1


class Deadline:
    """A budget of `timeout_s` seconds that starts now; None is unlimited."""

    def __init__(self, timeout_s: float | None, url: str) -> None:
        self._timeout_s = timeout_s
        self._url = url
        self._end = None if timeout_s is None else time.monotonic() + timeout_s

    def remaining_s(self) -> float | None:
        """Remaining seconds, above 0; None without a limit.

        Raises:
            DeadlineExceeded: no time is left.
        """
        if self._end is None:
            return None
        left = self._end - time.monotonic()
        if left <= 0:
            budget = f"the budget of {self._timeout_s:g} s is used up"
            raise DeadlineExceeded(f"{self._url}: {budget}: raise timeout_s (--timeout), or send less at once")
        return left

    def allows(self, seconds: float) -> bool:
        """Whether more than `seconds` are left."""
        return self._end is None or self._end - time.monotonic() > seconds


def with_retries(request: Callable[[float | None], T], deadline: Deadline) -> T:
    """Calls `request(seconds left)`, and again after growing pauses while no server answers.

    Only Unavailable is retried, up to 4 attempts in all: inference and queries change nothing on the server,
    so that retrying is safe. All other errors pass through.

    Raises:
        Unavailable: the last attempt failed too, or the budget has no time for a further pause.
        DeadlineExceeded: the budget is used up.
    """
    for attempt in range(_ATTEMPTS):
        try:
            return request(deadline.remaining_s())
        except Unavailable:
            # Random pauses, so that clients that failed together don't retry together.
            pause_s = _FIRST_PAUSE_S * 2**attempt * random.uniform(0.5, 1.5)
            if attempt == _ATTEMPTS - 1 or not deadline.allows(pause_s):
                raise
            time.sleep(pause_s)
    raise AssertionError("the last attempt returns or raises")
