"""Time, as a run uses it."""

from __future__ import annotations

import threading
import time


class Clock:
    """Seconds since it was made, and waits that `stop` ends."""

    def __init__(self) -> None:
        self._zero = time.perf_counter()
        self._stopped = threading.Event()

    def now_s(self) -> float:
        """Seconds since the beginning."""
        return time.perf_counter() - self._zero

    def wait_until(self, moment_s: float) -> None:
        """Returns at that moment, or at once after `stop`."""
        self._stopped.wait(max(0.0, moment_s - self.now_s()))

    def stop(self) -> None:
        """Ends all waits."""
        self._stopped.set()

    @property
    def stopped(self) -> bool:
        """Whether the run is to end early."""
        return self._stopped.is_set()
