"""How long a study will take, from what its runs took so far."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from protoclip.training.heartbeat import duration


class Pace:
    """Counts down the steps that are left, by model, since a step of one lasts as long as another's ten.

    Args:
        runs: model and steps of each run that is to be made.
    """

    def __init__(self, runs: Iterable[tuple[str, int]]) -> None:
        self._left: Counter[str] = Counter()
        self._seconds: Counter[str] = Counter()
        self._steps: Counter[str] = Counter()
        self.num_runs = self.num_done = 0
        for model, steps in runs:
            self._left[model] += steps
            self.num_runs += 1

    def done(self, model: str, steps: int, seconds: float | None) -> None:
        """A run has ended; `seconds` is all that it took, None where only its result was read."""
        self._left[model] -= steps
        self.num_done += 1
        if seconds is not None:
            self._steps[model] += steps
            self._seconds[model] += seconds  # type: ignore[assignment]

    @property
    def left_s(self) -> float | None:
        """Seconds; a model that was not run yet is taken to be as slow as the others are on average."""
        if not self._steps:
            return None
        mean = sum(self._seconds.values()) / sum(self._steps.values())
        rates = {model: self._seconds[model] / steps for model, steps in self._steps.items()}
        return sum(steps * rates.get(model, mean) for model, steps in self._left.items())

    def words(self) -> str:
        """`3 of 18 runs, 1 h 5 min left`."""
        left = "" if self.left_s is None else f", {duration(self.left_s)} left"
        return f"{self.num_done} of {self.num_runs} runs{left}"
