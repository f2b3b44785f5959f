"""One time budget for a whole call, and retries within it."""

from __future__ import annotations

import contextlib
import itertools
import math
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from enum import Enum
from typing import Literal, TypeAlias, TypeVar

from protoclip.contract.errors import ConfigError

from .call import Call
from .errors import DeadlineExceeded, NobodyListens, Unavailable

T = TypeVar("T")

_ATTEMPTS_UNKNOWN = 4
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 1.0


_GRACE_S = 0.1
"""A request that runs out of time says more of it than who waits for it."""


class _OfClient(Enum):
    OF_CLIENT = "the client's own"

    def __repr__(self) -> str:
        return "OF_CLIENT"


OF_CLIENT = _OfClient.OF_CLIENT
Timeout: TypeAlias = float | Literal[_OfClient.OF_CLIENT] | None
"""A call's own budget in seconds; None waits for ever, and OF_CLIENT stands for the client's own `timeout_s`."""


def check_timeout(timeout_s: float | None) -> None:
    """Raises ConfigError for what is no budget."""
    if timeout_s is not None and not (math.isfinite(timeout_s) and timeout_s > 0):
        raise ConfigError(f"timeout_s={timeout_s} must be a number of seconds above 0, or None")


class Deadline:
    """A budget of `timeout_s` seconds that starts now; None is unlimited.

    Attributes:
        call: whose budget it is.
    """

    def __init__(self, timeout_s: float | None, url: str, call: Call | None = None) -> None:
        self.call = call or Call()
        self._timeout_s = timeout_s
        self._url = url
        self._end = None if timeout_s is None else time.monotonic() + timeout_s

    def renewed(self) -> Deadline:
        """The whole budget once more, from now, of the same call."""
        return Deadline(self._timeout_s, self._url, self.call)

    def remaining_s(self) -> float | None:
        """Remaining seconds, above 0; None without a limit.

        Raises:
            DeadlineExceeded: no time is left.
        """
        if self._end is None:
            return None
        left = self._end - time.monotonic()
        if left <= 0:
            raise self.exceeded()
        return left

    def exceeded(self) -> DeadlineExceeded:
        """The error of a budget that is used up."""
        budget = f"the budget of {self._timeout_s:g} s is used up"
        return DeadlineExceeded(f"{self._url}: {budget}: raise timeout_s (--timeout), or send less at once")

    def allows(self, seconds: float) -> bool:
        """Whether more than `seconds` are left."""
        return self._end is None or self._end - time.monotonic() > seconds

    @contextmanager
    def holding(self, lock: threading.Lock) -> Iterator[None]:
        """Has `lock` within the block; DeadlineExceeded where another call holds it for too long."""
        while not lock.acquire(timeout=min(self.remaining_s() or 1.0, 1.0)):
            self.call.check()
        try:
            yield
        finally:
            lock.release()

    def result(self, future: Future[T]) -> T:
        """The result of `future`; DeadlineExceeded where it takes too long, however many stand before it."""
        if not future.done() and self._end is not None:
            try:
                return future.result(max(0.0, self._end - time.monotonic()) + _GRACE_S)
            except TimeoutError:
                if not future.done():
                    self.remaining_s()
        return future.result()

    def result_when_started(self, future: Future[T]) -> T:
        """The result of `future`, whose own budget begins with it; DeadlineExceeded where it never begins."""
        if self._end is not None:
            with contextlib.suppress(TimeoutError):
                return future.result(max(0.0, self._end - time.monotonic()))
            if future.cancel():
                raise self.exceeded()
        return future.result()


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
        CallCancelled: the call was cancelled, before or meanwhile.
    """
    call = deadline.call
    last: Unavailable | None = None
    for attempt in itertools.count():
        try:
            call.check()
            with call.current():
                return request(deadline.remaining_s())
        except DeadlineExceeded as error:
            if last is None:
                raise
            raise DeadlineExceeded(f"{error}; before that: {last}") from error
        except Unavailable as error:
            last, known = error, known or not isinstance(error, NobodyListens)
            pause_s = _pause_s(attempt, error.retry_after_s)
            if not deadline.allows(pause_s) or (not known and attempt == _ATTEMPTS_UNKNOWN - 1):
                raise
            call.pause(pause_s)
    raise AssertionError("the loop ends by an answer or an error")


def _pause_s(attempt: int, asked_for_s: float | None) -> float:
    """Random, so that clients that failed together don't retry together; no shorter than the server asks for."""
    if asked_for_s is not None:
        return asked_for_s + random.uniform(0.0, 0.25) * min(asked_for_s, _LONGEST_PAUSE_S) + _FIRST_PAUSE_S
    return min(_FIRST_PAUSE_S * 2 ** min(attempt, 10), _LONGEST_PAUSE_S) * random.uniform(0.5, 1.5)
