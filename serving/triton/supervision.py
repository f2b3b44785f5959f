"""Keeps a server serving: notices what died, and starts the server again, with growing pauses and a limit."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from protoclip.contract.errors import ProtoclipError, ServerError

from .launcher import TritonServer
from .probe import Pace, Probe
from .readiness import ModelCounts, statistics

LOOK_S = 0.1
"""How often processes are looked at."""
MODELS_S = 0.5
"""How often models are."""
STATISTICS_TIMEOUT_S = 2.0
COMPUTING = 0.05
"""Share of a core above which the server is said to compute."""
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")

Process = tuple[int, list[str]]
"""A process's number, and the fields of its /proc/PID/stat from the state on."""


class Beside(Protocol):
    """A process beside the server, such as the gateway."""

    name: str

    def keep(self) -> int | None:
        """Starts it again where it has ended, and returns its exit code then; None while it runs."""


@dataclass(frozen=True)
class RestartLimit:
    """At most `restarts` within `window_s` seconds; a pause of `pause_s` before the second, doubled each time."""

    restarts: int = 5
    window_s: float = 600.0
    pause_s: float = 1.0


@dataclass
class Supervisor:
    """Watches a server that has been started.

    Attributes:
        server: inside its `with` block.
        report: takes one line for every event.
        pace: when models are asked.
        limit: when it is given up.
        beside: other processes that are started again where they end.
    """

    server: TritonServer
    report: Callable[[str], None]
    pace: Pace = field(default_factory=Pace)
    limit: RestartLimit = field(default_factory=RestartLimit)
    beside: Sequence[Beside] = ()

    def __post_init__(self) -> None:
        self._restarts: deque[float] = deque()
        self._probes: list[Probe] = []
        self._begin()

    def run(self) -> None:
        """Watches until interrupted.

        Raises:
            ServerError: the limit of restarts is reached.
        """
        while True:
            time.sleep(LOOK_S)
            self.look()

    def look(self) -> None:
        """Looks once, and starts again what has died; raises as `run`."""
        if (code := self.server.keep_guard()) is not None:
            self._count(f"the guard ended with exit code {code}")
            self.report(f"the guard ended with exit code {code} and was started again")
        for other in self.beside:
            if (code := other.keep()) is not None:
                self._count(f"the {other.name} ended with exit code {code}")
                self.report(f"the {other.name} ended with exit code {code} and was started again")
        error = self.server.ended()
        if error is None and time.monotonic() - self._looked_s >= MODELS_S:
            try:
                self._look_at_models()
            except ServerError as dead:
                error = self.server.ended() or dead
        if error is not None:
            self._restart(error)

    def _begin(self) -> None:
        self._ended: set[int] = set()
        self._ready = True
        self._looked_s = time.monotonic()
        self._computed_s = _computed_s(_processes(self.server.pid))
        self._follow_models()
        for probe in self._probes:
            probe.begin(self._looked_s)

    def _follow_models(self) -> None:
        """A probe for each model: they may come and go."""
        kept = {probe.model.name: probe for probe in self._probes}
        self._probes = []
        for model in self.server.models:
            if model.name not in kept:
                kept[model.name] = Probe(model, self.pace)
                kept[model.name].begin(time.monotonic())
            self._probes.append(kept[model.name])

    def _look_at_models(self) -> None:
        now_s = time.monotonic()
        self._follow_models()
        processes = list(_processes(self.server.pid))
        _end_stopped_workers(self.server.pid, processes)
        self._find_dead_workers(processes)
        computed_s = _computed_s(processes)
        computes = computed_s - self._computed_s > COMPUTING * (now_s - self._looked_s)
        self._looked_s, self._computed_s = now_s, computed_s
        counts: dict[str, ModelCounts] = {}
        with contextlib.suppress(ServerError):
            counts = statistics(self.server.own_http_port, STATISTICS_TIMEOUT_S)
        for probe in self._probes:
            probe.look(now_s, self.server.own_http_port, counts, computes)
        self._tell_readiness(now_s)

    def _find_dead_workers(self, processes: Sequence[Process]) -> None:
        """Raises ServerError where a worker has ended by itself: another one of its model may answer every probe.

        Triton waits for the end of those that it ends itself, so that none of them is found twice.
        """
        ended = {pid for pid, fields in processes if fields[0] == "Z" and pid != self.server.pid}
        again, self._ended = ended & self._ended, ended
        if again:
            raise ServerError("a worker has ended")

    def _tell_readiness(self, now_s: float) -> None:
        doubts = [doubt for probe in self._probes if (doubt := probe.doubt(now_s))]
        if bool(doubts) == self._ready:
            self._ready = not doubts
            self.server.tell_clients(ready=self._ready, reason="; ".join(doubts))
            self.report("ready again" if self._ready else f"not ready: {'; '.join(doubts)}")

    def _restart(self, error: ServerError) -> None:
        while True:
            pause_s = self._count(str(error))
            self.report(f"{error}: starting the server again" + (f" in {pause_s:g} s" if pause_s else ""))
            began_s = time.monotonic()
            try:
                self.server.stop_server("the server is started again")
                time.sleep(pause_s)
                self.server.start_again()
                break
            except (ProtoclipError, OSError) as failure:
                error = ServerError(f"the server can't be started again: {failure}")
        self.report(
            f"the server answers again after {time.monotonic() - began_s:.1f} s, as process {self.server.pid}"
        )
        self._begin()

    def _count(self, reason: str) -> float:
        """The pause before this restart; raises ServerError where it would be one too many."""
        now_s = time.monotonic()
        while self._restarts and self._restarts[0] < now_s - self.limit.window_s:
            self._restarts.popleft()
        number = len(self._restarts)
        if number >= self.limit.restarts:
            raise ServerError(
                f"{reason}; given up after {number} restarts within {self.limit.window_s:.0f} s: read the "
                "server's log (--log-file keeps it)"
            )
        self._restarts.append(now_s)
        return self.limit.pause_s * 2 ** (number - 1) if number else 0.0


def _end_stopped_workers(server: int, processes: Sequence[Process]) -> None:
    """Kills the workers of a server that a signal has stopped.

    When such a one goes on, Triton 2.51 ends, or has been seen to answer a request with a wrong vector.

    Raises:
        ServerError: there was one.
    """
    stopped = [pid for pid, fields in processes if fields[0] == "T" and pid != server]
    for pid in stopped:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if stopped:
        raise ServerError("a worker was stopped by a signal")


def _computed_s(processes: Iterable[Process]) -> float:
    """Processor time of living processes; 0 where the system does not say."""
    return sum(int(fields[11]) + int(fields[12]) for _, fields in processes) / _TICKS_PER_S


def _processes(session: int) -> Iterator[Process]:
    """Each process of a session with the fields of its /proc/PID/stat from the state on."""
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = file.read_text().rpartition(")")[2].split()
            if int(fields[3]) == session:
                yield int(file.parent.name), fields
