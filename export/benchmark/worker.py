"""A candidate in a process of its own, which stays alive and measures one turn after the other.

Separate processes, because memory can't be attributed to candidates within one process, because the thread
pools of two runtimes in one process slow each other down, and because a crash then ends only its own
candidate. Only one of them works at a time; the others wait for a message.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import time
import warnings
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.graphs.tool_output import suppress_tool_output
from protoclip.contract.errors import ModelError

from .backends import Backend, load_libraries, open_backend
from .candidates import Candidate, Model
from .memory import memory_now, memory_peak, reset_peak
from .results import EncoderName

_CLOSE_S = 5.0
# A turn begins with an uncounted warm-up call, unless a call takes more than this share of the turn.
_WARM_SHARE = 0.25


class CandidateError(ModelError):
    """A candidate can't be opened or run; the others go on."""


@dataclass(frozen=True)
class Job:
    """A worker's input: the candidate, its model, and the inputs, `[N, ...]` of each encoder."""

    candidate: Candidate
    model: Model | None
    fingerprint: str
    threads: int
    inputs: dict[EncoderName, NDArray[Any]]


class Worker:
    """Handle of a candidate's process. A context manager: the process ends with it.

    Attributes:
        backend: the candidate's runtime with its version.
        num_bytes: as in `CandidateResult`.

    Raises:
        CandidateError: from every method: the candidate can't be opened or run, or its process died.
    """

    def __init__(self, job: Job) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, job), name=job.candidate.name, daemon=True)
        self._process.start()
        theirs.close()
        try:
            self.backend, self.num_bytes = self._answer()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def embed(self, encoder: EncoderName, batch: int) -> NDArray[np.float32]:
        """Embeddings `[N, D]` of all inputs, in batches of at most `batch`."""
        rows: NDArray[np.float32] = self._ask("embed", encoder, batch)
        return rows

    def warm_up(self, encoder: EncoderName, batch: int) -> int | None:
        """Runs the batch size for the first time; peak memory beyond the libraries, None if unknown."""
        peak: int | None = self._ask("warm_up", encoder, batch)
        return peak

    def turn(self, encoder: EncoderName, batch: int, seconds: float) -> list[float]:
        """Seconds of each call; calls are started for `seconds`, at least one."""
        calls: list[float] = self._ask("turn", encoder, batch, seconds)
        return calls

    def close(self) -> None:
        self._pipe.close()
        self._process.join(_CLOSE_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _ask(self, *request: Any) -> Any:
        with contextlib.suppress(BrokenPipeError):  # reading the answer reports how the process ended
            self._pipe.send(request)
        return self._answer()

    def _answer(self) -> Any:
        try:
            worked, value = self._pipe.recv()
        except (EOFError, ConnectionResetError) as error:
            self._process.join(_CLOSE_S)
            raise CandidateError(f"its process ended with exit code {self._process.exitcode}") from error
        if not worked:
            raise CandidateError(value)
        return value


def _work(pipe: Connection, job: Job) -> None:
    # The parent handles Ctrl-C and closes the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")
    try:
        with suppress_tool_output():
            load_libraries(job.candidate)
            runner = _Runner(job)
            pipe.send((True, (runner.backend.name, runner.backend.num_bytes)))
            while True:
                what, *values = pipe.recv()
                pipe.send((True, getattr(runner, what)(*values)))
    except (EOFError, BrokenPipeError):
        return
    except Exception as error:  # noqa: BLE001 - every runtime has its own errors; the parent names the candidate
        pipe.send((False, _first_line(error)))


class _Runner:
    def __init__(self, job: Job) -> None:
        self._job, self._device = job, job.candidate.device
        self._libraries = memory_now(self._device)
        self.backend: Backend = open_backend(job.candidate, job.model, job.fingerprint, job.threads)
        self._first_call_s: dict[tuple[str, int], float] = {}

    def embed(self, encoder: EncoderName, batch: int) -> NDArray[np.float32]:
        inputs = self._job.inputs[encoder]
        starts = range(0, len(inputs), batch)
        return np.concatenate([self.backend.run(encoder, inputs[at : at + batch]) for at in starts])

    def warm_up(self, encoder: EncoderName, batch: int) -> int | None:
        inputs = self._batch(encoder, batch)
        reset_peak(self._device)
        self.backend.run(encoder, inputs)
        started = time.perf_counter()
        self.backend.run(encoder, inputs)
        self._first_call_s[encoder, batch] = time.perf_counter() - started
        peak = memory_peak(self._device)
        return None if peak is None or self._libraries is None else max(0, peak - self._libraries)

    def turn(self, encoder: EncoderName, batch: int, seconds: float) -> list[float]:
        inputs, calls = self._batch(encoder, batch), list[float]()
        if self._first_call_s[encoder, batch] < _WARM_SHARE * seconds:
            self.backend.run(encoder, inputs)
        started = time.perf_counter()
        while not calls or time.perf_counter() - started < seconds:
            before = time.perf_counter()
            self.backend.run(encoder, inputs)
            calls.append(time.perf_counter() - before)
        return calls

    def _batch(self, encoder: EncoderName, size: int) -> NDArray[Any]:
        inputs = self._job.inputs[encoder]
        # Repeats the inputs where there are fewer than `size`.
        return np.resize(inputs, (size, *inputs.shape[1:]))


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
