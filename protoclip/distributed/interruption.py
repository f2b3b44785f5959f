"""SIGINT and SIGTERM end a run between two steps, after a checkpoint."""

from __future__ import annotations

import os
import signal
from types import FrameType, TracebackType
from typing import Any, Self

from protoclip.contract.errors import ProtoclipError

from . import collectives

LAUNCHER = "PROTOCLIP_LAUNCHER"
"""In a rank's environment: the process id of what started it."""


class Interrupted(ProtoclipError):
    """A signal ended the run; its exit code is 128 plus the signal's number."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


class Interruption:
    """Remembers the first signal; a second Ctrl-C interrupts at once, wherever the run is.

    What came to this rank and what the ranks know of are kept apart: a signal may come at any moment, and a
    rank that acted on its own one before the others know would wait for them in a collective they never enter.
    """

    def __init__(self) -> None:
        self._signal: int | None = None
        self._agreed: int | None = None
        self._before: dict[int, Any] = {}

    @property
    def asked(self) -> bool:
        """Whether a signal had come to any rank when they last agreed."""
        return self._agreed is not None

    def agree(self, due: bool = False) -> bool:
        """Makes a signal that came to one rank known to all, so that they stop at the same step.

        A rank whose launcher was killed takes that for a SIGTERM.

        Args:
            due: something that all ranks do as soon as it is due on one; asked in the same exchange.

        Returns:
            Whether it is due on any rank.
        """
        launcher = os.environ.get(LAUNCHER)
        if launcher is not None and os.getppid() != int(launcher):
            self._signal = signal.SIGTERM
        signal_number, due_somewhere = collectives.largest(self._signal or 0, int(due))
        self._agreed = signal_number or None
        return bool(due_somewhere)

    def raise_if_asked(self, message: str) -> None:
        """Raises Interrupted with `message` if the ranks agreed that a signal came."""
        if self._agreed is not None:
            raise Interrupted(message, self._agreed)

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._before[number] = signal.signal(number, self._remember)
            except ValueError:  # not in the main thread: the caller's signals are the caller's
                break
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        # The launchers of several hosts pass SIGTERM on at different times: the later ones say nothing new.
        if self._signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._signal = self._signal or number
