"""TensorRT's callbacks: its log, and its progress monitor.

The package's base classes are known at run time only, so the classes here are made by functions.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Any

from protoclip.contract.progress import Progress

_MAX_REASON = 300
_SOURCE_POSITION = re.compile(r"(?:\.? )?\bIn \w+ at /[^\s)]+ ?")


def make_log(api: Any) -> Any:
    """An `ILogger` that is silent and keeps errors.

    `take_error()` returns the first error since its last call, as one line, or None: later ones follow from it.
    """

    class Log(api.ILogger):
        def __init__(self) -> None:
            api.ILogger.__init__(self)
            self._errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (api.ILogger.ERROR, api.ILogger.INTERNAL_ERROR):
                self._errors.append(message)

        def take_error(self) -> str | None:
            errors, self._errors = self._errors, []
            return one_line(errors[0]) if errors else None

    return Log()


def one_line(message: str) -> str:
    """`message` without line breaks and TensorRT's source locations, 300 characters at most."""
    line = _SOURCE_POSITION.sub("", " ".join(message.split()))
    return line if len(line) <= _MAX_REASON else f"{line[: _MAX_REASON - 1]}…"


def make_monitor(api: Any, phases: Phases) -> Any:
    """An `IProgressMonitor` that forwards everything to `phases`."""

    class Monitor(api.IProgressMonitor):
        def __init__(self) -> None:
            api.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            phases.start(phase_name, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return phases.step(phase_name, step)

        def phase_finish(self, phase_name: str) -> None:
            phases.finish(phase_name)

    return Monitor()


class Phases:
    """Reports the builder's nested phases to a Progress: the one that advanced last is shown.

    An exception from `progress`, Ctrl-C included, must not propagate through the builder: it is stored in
    `error`, and the builder is told to stop at its next step. Safe to call from several threads.
    """

    def __init__(self, what: str, progress: Progress) -> None:
        self._what, self._progress = what, progress
        self._num_steps: dict[str, int] = {}
        self._lock = threading.Lock()
        self.error: BaseException | None = None

    def start(self, phase: str, num_steps: int) -> None:
        self._num_steps[phase] = num_steps
        self._show(phase, 0)

    def step(self, phase: str, step: int) -> bool:
        """`step` counts from 0. False tells the builder to stop."""
        self._show(phase, step + 1)
        return self.error is None

    def finish(self, phase: str) -> None:
        self._show(phase, self._num_steps.get(phase, 0))

    def _show(self, phase: str, done: int) -> None:
        # The builder reports more steps than it announced in some phases.
        total = max(self._num_steps.get(phase, 0), done, 1)
        self._guarded(lambda: self._progress(f"{self._what}: {phase}", done, total))

    def _guarded(self, call: Callable[[], None]) -> None:
        with self._lock:
            if self.error is not None:
                return
            try:
                call()
            except BaseException as error:  # noqa: BLE001 - raised again when the builder has stopped
                self.error = error
