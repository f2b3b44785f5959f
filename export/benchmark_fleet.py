"""All arms that run: opened one after the other, asked in turn, dropped with a reason where one fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Concatenate, ParamSpec, TypeVar

from .benchmark_arms import Arm
from .benchmark_table import Missing
from .benchmark_worker import ArmError, Job, Worker

Answer = TypeVar("Answer")
Arguments = ParamSpec("Arguments")


class Fleet:
    """The workers of several arms; a context manager that ends their processes.

    Attributes:
        missing: arms that could not be opened, or failed since, each with its reason.
    """

    def __init__(self, job_of: Callable[[Arm], Job]) -> None:
        self.missing: list[Missing] = []
        self._job_of = job_of
        self._workers: dict[Arm, Worker] = {}

    def __enter__(self) -> Fleet:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers.values():
            worker.close()

    def open(self, arm: Arm) -> None:
        """Starts the arm's process; where that fails, `missing` says why."""
        try:
            self._workers[arm] = Worker(self._job_of(arm))
        except ArmError as error:
            self.missing.append(Missing(arm.name, str(error)))

    def alive(self, arms: Iterable[Arm]) -> list[Arm]:
        """Those of `arms` that run."""
        return [arm for arm in arms if arm in self._workers]

    def worker(self, arm: Arm) -> Worker:
        """The process of an arm that is alive."""
        return self._workers[arm]

    def ask(
        self,
        arm: Arm,
        question: Callable[Concatenate[Worker, Arguments], Answer],
        *values: Arguments.args,
        **named: Arguments.kwargs,
    ) -> Answer | None:
        """What a method of the arm's worker gives; None, and the arm is dropped, where it fails."""
        try:
            return question(self._workers[arm], *values, **named)
        except ArmError as error:
            self.missing.append(Missing(arm.name, str(error)))
            self.close(arm)
            return None

    def close(self, arm: Arm) -> None:
        """Ends the arm's process."""
        self._workers.pop(arm).close()
