"""One call of a user: it can be cancelled, and counts its retries. Transports find it by `current_call`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from .errors import CallCancelled
from .telemetry import NO_SPAN, CallSpan

_LONGEST_PAUSE_S = 86_400.0
"""A wait of centuries, which a server may ask for, is more than threads can count."""


class Call:
    """What the requests of one call share. Threads may use it at once.

    Attributes:
        cancellable: what is under way must end with `cancel`; otherwise only nothing more is sent.
        span: of OpenTelemetry, or one that records nothing.
        num_items: items that were sent, bad ones included.
        num_retries: requests that were repeated.
    """

    def __init__(self, span: CallSpan = NO_SPAN, cancellable: bool = False) -> None:
        self.cancellable = cancellable
        self.span = span
        self.num_items = 0
        self.num_retries = 0
        self._cancelled = threading.Event()
        self._stops: set[Callable[[], object]] = set()
        self._lock = threading.Lock()

    def cancel(self) -> None:
        """Nothing is sent any more, and what is under way ends. May be called twice, and after the end."""
        with self._lock:
            self._cancelled.set()
            # Under the lock: a connection that was given back meanwhile may be in use by another call.
            for stop in self._stops:
                stop()

    def check(self) -> None:
        """Raises CallCancelled after `cancel`."""
        if self._cancelled.is_set():
            raise CallCancelled("the call was cancelled")

    def pause(self, seconds: float) -> None:
        """Waits before a request is repeated, which is counted; for a day at most.

        Raises:
            CallCancelled: meanwhile.
        """
        with self._lock:
            self.num_retries += 1
        self._cancelled.wait(min(seconds, _LONGEST_PAUSE_S))
        self.check()

    def count_items(self, number: int) -> None:
        """Adds to `num_items`."""
        with self._lock:
            self.num_items += number

    @contextmanager
    def ended_by(self, stop: Callable[[], object]) -> Iterator[None]:
        """Within the block a cancellation calls `stop`, from another thread.

        Raises:
            CallCancelled: it was cancelled already, or is when the block fails.
        """
        with self._lock:
            self.check()
            self._stops.add(stop)
        try:
            yield
        except BaseException:
            self.check()
            raise
        finally:
            with self._lock:
                self._stops.discard(stop)

    @contextmanager
    def current(self) -> Iterator[None]:
        """Within the block `current_call` gives this one, in this thread."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)


_current: ContextVar[Call | None] = ContextVar("protoclip_call", default=None)


def current_call() -> Call:
    """The call that a transport's request belongs to; where a transport is used alone, one that nobody cancels."""
    return _current.get() or Call()
