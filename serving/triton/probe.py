"""Whether one public model still answers: by what it does for its clients, or by a request of our own."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from protoclip.contract.errors import ServerError

from .catalog import PublicModel
from .readiness import BusyError, ModelCounts, infer

FORGIVEN_S = 30.0
"""A second failure within this time is no chance: of several instances one that is dead answers now and then."""
_NOTHING = ModelCounts(0, 0, 0)


@dataclass(frozen=True)
class Pace:
    """When the server is asked, and when it is given up; all in seconds.

    Attributes:
        interval_s: between requests to a model that nobody else asks, at least.
        share: of the time that requests to one model may take.
        seldom_s: between them at most, however long one takes.
        unready_s: a request without an answer for this long, while nothing gets done, means not ready.
        stalled_s: for this long, that the server is started again.
        longest_s: the same where its processes still compute.
    """

    interval_s: float = 2.0
    share: float = 0.02
    seldom_s: float = 6.0
    unready_s: float = 5.0
    stalled_s: float = 15.0
    longest_s: float = 120.0

    def pause_s(self, took_s: float) -> float:
        """Between a request that took so long and the next one."""
        return max(self.interval_s, min(took_s / self.share, self.seldom_s))


class Probe:
    """Keeps an eye on one model.

    A model that has served its clients since the last look, without a failure, is not asked: a request of ours
    would wait in their queue. One that is asked and does not answer is busy as long as it, or one of its parts,
    gets anything done.
    """

    def __init__(self, model: PublicModel, pace: Pace) -> None:
        self.model = model
        self._pace = pace
        self._names = (model.name, *model.parts)
        self._counts: tuple[ModelCounts, ...] = ()
        self._last_good_s = 0.0
        self._took_s = 0.0
        self._progress_s = 0.0
        self._computes_s = 0.0
        self._request: _Request | None = None
        self._failure = ""
        self._failed_s: float | None = None

    def begin(self, now_s: float) -> None:
        """A server was started and has answered."""
        self._counts, self._request, self._failure, self._failed_s = (), None, "", None
        self._last_good_s = self._progress_s = now_s

    def look(self, now_s: float, port: int, statistics: Mapping[str, ModelCounts], computes: bool) -> None:
        """Takes note of what happened since the last look, and asks the model where that is due.

        Args:
            now_s: the time, by a clock that never goes back.
            port: the server's own port for HTTP.
            statistics: counts by model; empty where the server does not give them.
            computes: whether the server's processes used the processor meanwhile.

        Raises:
            ServerError: the model is dead: two requests failed, or one has no answer and nothing is done.
        """
        served = self._note_progress(now_s, statistics)
        if computes:
            self._computes_s = now_s
        request = self._request
        if request is not None and request.done.is_set():
            self._request = None
            self._took_s = request.took_s
            self._take_answer(request.error, now_s, port)
        elif request is not None:
            self._check_wait(now_s)
        elif served and not self._failure:
            self._last_good_s = now_s
        elif now_s - self._last_good_s >= self._pace.pause_s(self._took_s):
            self._ask(now_s, port)

    def doubt(self, now_s: float) -> str:
        """Why the model is not ready; empty where it is."""
        if self._failure:
            return self._failure
        if self._request is not None and now_s - self._progress_s > self._pace.unready_s:
            return f"{self.model.name}: no answer for {now_s - self._progress_s:.0f} s"
        return ""

    def _note_progress(self, now_s: float, statistics: Mapping[str, ModelCounts]) -> bool:
        """Whether the model has served clients, and none of them badly."""
        if not statistics:
            return False
        counts = tuple(statistics.get(name, _NOTHING) for name in self._names)
        before, self._counts = self._counts, counts
        if counts != before:
            self._progress_s = now_s
        return bool(before) and counts[0].success > before[0].success and counts[0].fail == before[0].fail

    def _take_answer(self, error: ServerError | None, now_s: float, port: int) -> None:
        if error is None or isinstance(error, BusyError):
            self._failure, self._last_good_s = "", now_s
            return
        if self._failed_s is not None and now_s - self._failed_s <= FORGIVEN_S:
            raise error
        # Once may be chance: a request that was on its way when another one's failure ended its batch.
        self._failure, self._failed_s = str(error), now_s
        self._ask(now_s, port)

    def _check_wait(self, now_s: float) -> None:
        waited_s = now_s - self._progress_s
        idle_s = min(waited_s, now_s - self._computes_s)
        if idle_s > self._pace.stalled_s or waited_s > self._pace.longest_s:
            raise ServerError(f"{self.model.name}: no answer for {waited_s:.0f} s, and nothing gets done")

    def _ask(self, now_s: float, port: int) -> None:
        self._progress_s = now_s
        self._request = _Request(port, self.model, self._pace.longest_s + self._pace.stalled_s)


class _Request:
    """One request in a thread of its own, which ends with the server at the latest."""

    def __init__(self, port: int, model: PublicModel, timeout_s: float) -> None:
        self.done = threading.Event()
        self.error: ServerError | None = None
        self.took_s = 0.0
        self._arguments = (port, model, timeout_s)
        threading.Thread(target=self._run, name=f"probe-{model.name}", daemon=True).start()

    def _run(self) -> None:
        began_s = time.monotonic()
        try:
            infer(*self._arguments)
        except ServerError as error:
            self.error = error
        except Exception as error:  # noqa: BLE001
            # An answer that can't be read, or its thread would end as if it were a good one.
            name = self._arguments[1].name
            self.error = ServerError(f"{name}: a request for a test got an answer that can't be read: {error!r}")
        finally:
            self.took_s = time.monotonic() - began_s
            self.done.set()
