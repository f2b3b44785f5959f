"""The progress of training, on standard error: bars on a terminal, else lines."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from .heartbeat import Heartbeat, duration

T = TypeVar("T")
_WINDOW = 50
_LONG_WAIT = 0.1


@dataclass(frozen=True)
class _Phase:
    """Work that is no step: how much of it is done, of how much, and when it began; total 0: not known."""

    what: str
    began: float
    done: int = 0
    total: int = 0

    def line(self, now: float) -> str:
        spent = duration(now - self.began)
        if not self.total:
            return f"{self.what}, for {spent}"
        left = f", {duration((now - self.began) / self.done * (self.total - self.done))} left" if self.done else ""
        return f"{self.what}, {self.done:,} of {self.total:,}{left}"


class TrainProgress:
    """Shows the phases and the steps of a run, with pairs per second over the last steps.

    Without a terminal, a thread writes a line at least every 30 s, in a phase without steps too.

    Args:
        quiet: show nothing.
        write: takes the lines; None: to standard error.
        clock: seconds.
    """

    def __init__(
        self,
        *,
        quiet: bool = False,
        write: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        console = Console(stderr=True)
        has_bars = console.is_jupyter or (console.is_terminal and not console.is_dumb_terminal)
        self._bars = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=quiet or not has_bars,
        )
        self._clock = clock
        self._lines = None if quiet or has_bars else Heartbeat(self.line, write, clock)
        self._began = clock()
        self._phases: tuple[_Phase, ...] = ()
        self._task: TaskID | None = None
        self._times: deque[tuple[int, float]] = deque(maxlen=_WINDOW)
        self._num_steps = self._batch_size = 0
        self._note = self._validated = ""

    def reading(self, items: Iterable[T], total: int) -> Iterator[T]:
        """Shows the progress of reading pictures."""
        return self.counted("reading pictures", items, total)

    def counted(self, what: str, items: Iterable[T], total: int) -> Iterator[T]:
        """The items, as a phase of its own that ends with them."""
        with self.phase(what, total) as tell:
            for done, item in enumerate(items, start=1):
                yield item
                tell(done)

    @contextmanager
    def phase(self, what: str, total: int = 0) -> Iterator[Callable[[int], None]]:
        """Work that is no step, inside another phase perhaps; gives what takes the number of items done.

        Args:
            what: is going on, such as "reading pictures".
            total: items, 0 where they aren't counted.
        """
        outer, began = self._phases, self._clock()
        self._phases = (*outer, _Phase(what, began, 0, total))
        task = self._bars.add_task(what, total=total, rate="", note="") if total and self._task is None else None
        self._show_note(what)

        def tell(done: int) -> None:
            self._phases = (*outer, replace(self._phases[-1], done=done))
            if task is not None:
                self._bars.update(task, completed=done)

        try:
            yield tell
        finally:
            self._phases = outer
            self._show_note(self._note)

    def start(self, num_steps: int, step: int, batch_size: int) -> None:
        self._num_steps, self._batch_size = num_steps, batch_size
        self._times.append((step, self._clock()))
        self._task = self._bars.add_task("training", total=num_steps, completed=step, rate="", note="")
        if self._lines is not None:
            self._lines.say(f"training from step {step:,} to {num_steps:,}, {batch_size:,} pairs each")

    def step(self, step: int) -> None:
        self._times.append((step, self._clock()))
        if self._task is not None:
            self._bars.update(self._task, completed=step, rate=f"{self.pairs_per_second:,.0f} pairs/s")

    def show(self, stage: str, loss: float, data_wait_s: float = 0.0) -> None:
        """Sets the text behind the bar; that a step waits for its batch is said from a tenth of its time on."""
        share = data_wait_s * self.pairs_per_second / max(1, self._batch_size)
        waiting = f", {min(share, 1.0):.0%} of the time waiting for data" if share >= _LONG_WAIT else ""
        self._note = f"{stage}, loss {loss:.3f}{self._validated}{waiting}"
        self._show_note(self._note)

    def validated(self, metric: str, value: float, best: float) -> None:
        """Sets what `show` adds from now on."""
        self._validated = f", {metric} {value:.3f} (best {best:.3f})"

    @property
    def pairs_per_second(self) -> float:
        (first_step, first_time), (last_step, last_time) = self._times[0], self._times[-1]
        return (last_step - first_step) * self._batch_size / max(last_time - first_time, 1e-9)

    def line(self) -> str:
        """What is going on and how far: the steps, once they have begun, and the phase, if there is one."""
        parts = [self._steps_line()] if self._times else []
        parts += [phase.line(self._clock()) for phase in self._phases[-1:]]
        return "; ".join(parts) or f"starting, for {duration(self._clock() - self._began)}"

    def _steps_line(self) -> str:
        step, rate = self._times[-1][0], self.pairs_per_second
        note = f", {self._note}" if self._note else ""
        if rate == 0:
            return f"step {step:,} of {self._num_steps:,}{note}"
        left = duration((self._num_steps - step) * self._batch_size / rate)
        return f"step {step:,} of {self._num_steps:,}{note}, {rate:,.0f} pairs/s, {left} left"

    def _show_note(self, note: str) -> None:
        if self._task is not None:
            self._bars.update(self._task, note=note)

    def __enter__(self) -> Self:
        self._bars.start()
        if self._lines is not None:
            self._lines.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()
        if self._lines is not None:
            self._lines.stop()
            if kind is None and self._times:
                spent = duration(self._clock() - self._began)
                self._lines.say(
                    f"step {self._times[-1][0]:,} of {self._num_steps:,}, {self._note}: done in {spent}"
                )
