"""One time budget for a whole call, and retries within it."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable
from typing import TypeVar

from .errors import DeadlineExceeded, NobodyListens, Unavailable

T = TypeVar("T")

_ATTEMPTS_UNKNOWN = 4
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 1.0


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


def with_retries(request: Callable[[float | None], T], deadline: Deadline, known: bool = False) -> T:
    """Calls `request(seconds left)`, and again after growing pauses for as long as the server is Unavailable.

    Inference and queries change nothing on the server, so that retrying is safe. All other errors pass through.
    The budget holds for all attempts, with one exception: where nothing has ever listened at the address, it is
    more likely wrong than a server's that restarts, and the fourth attempt is the last.

    Args:
        known: whether the server has answered before this call.

    Raises:
        Unavailable: the last attempt failed too, or the budget has no time for a further pause.
        DeadlineExceeded: the budget is used up.
    """
    last: Unavailable | None = None
    for attempt in itertools.count():
        try:
            return request(deadline.remaining_s())
        except DeadlineExceeded as error:
            if last is None:
                raise
            raise DeadlineExceeded(f"{error}; before that: {last}") from error
        except Unavailable as error:
            last, known = error, known or not isinstance(error, NobodyListens)
            pause_s = _pause_s(attempt)
            if not deadline.allows(pause_s) or (not known and attempt == _ATTEMPTS_UNKNOWN - 1):
                raise
            time.sleep(pause_s)
    raise AssertionError("the loop ends by an answer or an error")


def _pause_s(attempt: int) -> float:
    """Random, so that clients that failed together don't retry together."""
    return min(_FIRST_PAUSE_S * 2 ** min(attempt, 10), _LONGEST_PAUSE_S) * random.uniform(0.5, 1.5)
