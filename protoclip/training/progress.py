"""The progress bars of training, on standard error."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from types import TracebackType
from typing import Self, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

T = TypeVar("T")
_WINDOW = 50


class TrainProgress:
    """Bars for reading and for training, with pairs per second over the last steps."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=Console(stderr=True),
            disable=quiet,
        )
        self._task: TaskID | None = None
        self._times: deque[tuple[int, float]] = deque(maxlen=_WINDOW)
        self._batch_size = 0
        self._validated = ""

    def reading(self, items: Iterable[T], total: int) -> Iterable[T]:
        """Shows the progress of reading pictures."""
        self._progress.start()
        task = self._progress.add_task("reading pictures", total=total, rate="", note="")
        for done, item in enumerate(items, start=1):
            yield item
            self._progress.update(task, completed=done)

    def start(self, num_steps: int, step: int, batch_size: int) -> None:
        self._batch_size = batch_size
        self._progress.start()
        self._times.append((step, time.monotonic()))
        self._task = self._progress.add_task("training", total=num_steps, completed=step, rate="", note="")

    def step(self, step: int) -> None:
        self._times.append((step, time.monotonic()))
        if self._task is not None:
            self._progress.update(self._task, completed=step, rate=f"{self.pairs_per_second:,.0f} pairs/s")

    def show(self, stage: str, loss: float) -> None:
        """Sets the text behind the bar."""
        if self._task is not None:
            self._progress.update(self._task, note=f"{stage}, loss {loss:.3f}{self._validated}")

    def validated(self, metric: str, value: float, best: float) -> None:
        """Sets what `show` adds from now on."""
        self._validated = f", {metric} {value:.3f} (best {best:.3f})"

    @property
    def pairs_per_second(self) -> float:
        (first_step, first_time), (last_step, last_time) = self._times[0], self._times[-1]
        return (last_step - first_step) * self._batch_size / max(last_time - first_time, 1e-9)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
