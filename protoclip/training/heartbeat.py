"""Lines in place of bars where there is no terminal: in logs, containers and pipes."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable

# A line is promised every 30 s; a busy machine may wake the thread late.
EVERY_S = 25.0
_POLL_S = 0.5


class Heartbeat:
    """Writes a line at least every 30 s, from a thread of its own: a long call is no silence.

    Args:
        line: what is going on; called in the thread.
        write: takes a line.
        clock: seconds.
    """

    def __init__(
        self,
        line: Callable[[], str],
        write: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._line, self._write, self._clock = line, write or _to_stderr, clock
        self._last = clock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress lines", daemon=True)

    def start(self) -> None:
        """Starts the thread; nothing where it runs already."""
        if not self._thread.is_alive() and not self._ended.is_set():
            self._last = self._clock()
            self._thread.start()

    def stop(self) -> None:
        """Ends the thread; it can't be started again."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def say(self, text: str) -> None:
        """Writes a line now; the next one comes that much later."""
        self._last = self._clock()
        # Whoever read the lines may be gone: that is no reason to end a run.
        with contextlib.suppress(OSError, ValueError):
            self._write(text)

    def tick(self) -> None:
        """Writes what is going on, if the last line is old enough."""
        if self._clock() - self._last >= EVERY_S:
            self.say(self._line())

    def _run(self) -> None:
        while not self._ended.wait(_POLL_S):
            self.tick()


def duration(seconds: float) -> str:
    """In words: `45 s`, `4 min 10 s`, `3 h 5 min`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
