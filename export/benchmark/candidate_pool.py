"""All candidates that run: opened one after the other, run in turn, dropped with a reason where one fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Concatenate, ParamSpec, TypeVar

from .candidates import Candidate
from .results import Missing
from .worker import CandidateError, Job, Worker

Answer = TypeVar("Answer")
Arguments = ParamSpec("Arguments")


class CandidatePool:
    """The workers of several candidates; a context manager that ends their processes.

    Attributes:
        missing: candidates that could not be opened, or failed later, each with its reason.
    """

    def __init__(self, job_of: Callable[[Candidate], Job]) -> None:
        self.missing: list[Missing] = []
        self._job_of = job_of
        self._workers: dict[Candidate, Worker] = {}

    def __enter__(self) -> CandidatePool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers.values():
            worker.close()

    def open(self, candidate: Candidate) -> None:
        """Starts the candidate's process; where that fails, `missing` says why."""
        try:
            self._workers[candidate] = Worker(self._job_of(candidate))
        except CandidateError as error:
            self.missing.append(Missing(candidate.name, str(error)))

    def alive(self, candidates: Iterable[Candidate]) -> list[Candidate]:
        """Those of `candidates` whose process is alive."""
        return [candidate for candidate in candidates if candidate in self._workers]

    def worker(self, candidate: Candidate) -> Worker:
        """The process of a candidate that is alive."""
        return self._workers[candidate]

    def ask(
        self,
        candidate: Candidate,
        question: Callable[Concatenate[Worker, Arguments], Answer],
        *values: Arguments.args,
        **named: Arguments.kwargs,
    ) -> Answer | None:
        """Calls a method of the candidate's worker; where it fails, returns None and drops the candidate."""
        try:
            return question(self._workers[candidate], *values, **named)
        except CandidateError as error:
            self.missing.append(Missing(candidate.name, str(error)))
            self.close(candidate)
            return None

    def close(self, candidate: Candidate) -> None:
        """Ends the candidate's process."""
        self._workers.pop(candidate).close()
