"""SIGINT and SIGTERM end a run between two steps, after a checkpoint."""

from __future__ import annotations

import os
import signal
from types import FrameType, TracebackType
from typing import Any, Self

from protoclip.contract.errors import ProtoclipError

from . import collectives

LAUNCHER = "PROTOCLIP_LAUNCHER"
"""Environment variable of a rank: the process id of its launcher."""


class Interrupted(ProtoclipError):
    """A signal ended the run; its exit code is 128 plus the signal's number."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


class Interruption:
    """Remembers the first signal; a second Ctrl-C interrupts at once, wherever the run is.

    A signal received by this rank and one agreed on by all ranks are kept apart: a signal may come at any time,
    and a rank that acted on it before the others know would wait for them in a collective they never enter.
    """

    def __init__(self) -> None:
        self._signal: int | None = None
        self._agreed: int | None = None
        self._before: dict[int, Any] = {}

    @property
    def asked(self) -> bool:
        """Whether any rank had received a signal when the ranks last agreed."""
        return self._agreed is not None

    def agree(self, due: bool = False) -> bool:
        """Makes a signal that one rank received known to all, so that they stop at the same step.

        A rank whose launcher was killed treats that as a SIGTERM.

        Args:
            due: whether something is due that all ranks do once it is due on one; sent in the same collective.

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
            except ValueError:  # not in the main thread, where handlers can't be set: they stay the caller's
                break
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        # The launchers of several hosts pass SIGTERM on at different times: the later ones are ignored.
        if self._signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._signal = self._signal or number
