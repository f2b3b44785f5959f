"""Sends the requests of a run, by threads that share one transport."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from protoclip.client.discovery import ServedModel
from protoclip.client.errors import Refused
from protoclip.client.priority import sent_with
from protoclip.client.statistics import HasStatistics, ModelStatistics
from protoclip.client.transport import Transport
from protoclip.contract.errors import ServerError
from protoclip.contract.priorities import BULK, INTERACTIVE

from .answers import Judge, Judged
from .clock import Clock
from .failures import failure_of
from .histogram import Histogram
from .inputs import Inputs, broken_images
from .plan import BROKEN, Mix, Planned, plan_closed, plan_open
from .settings import Load
from .tally import Tally

GRACE_S = 1.0
"""So long after the end planned requests are still sent, that were due before."""
_PAUSE_S = 0.1
_STATISTICS_S = 5.0
_LEAVE_S = 2.0
_LOOK_S = 0.2


@dataclass
class Measured:
    """What a run has found.

    Attributes:
        elapsed_s: that were measured, after the warm-up: less than asked for where it was interrupted.
        cpu_share: CPU seconds of this process in a second; its transports' threads included.
        lateness: of starts for which a client was free; empty in a closed loop.
        before, after: the server's statistics; None where it gives none.
        no_statistics: why not.
        interrupted: by Ctrl-C.
    """

    tally: Tally
    elapsed_s: float = 0.0
    cpu_share: float = 0.0
    lateness: Histogram = field(default_factory=Histogram)
    before: list[ModelStatistics] | None = None
    after: list[ModelStatistics] | None = None
    no_statistics: str | None = None
    interrupted: bool = False


class Clients:
    """What `load.clients` threads do: take the next planned request, wait until it is due, send it, count it.

    In an open loop a request's latency counts from when it was *planned*, also where every client was still
    waiting for an answer at that moment. From when it was sent, a server that stands still for a second would show
    one slow request for each client, and those that should have come meanwhile would be left out: an error called
    coordinated omission. In a closed loop there is no plan, and a slow server is asked less often; latency counts
    from the sending.

    A request is sent once: the client's retries would hide failures. In a closed loop a client whose request found
    no server, or a busy one, waits 0.1 s.
    """

    def __init__(
        self, transport: Transport, model: ServedModel, inputs: Inputs, load: Load, clock: Clock, tally: Tally
    ) -> None:
        self._transport, self._inputs, self._load = transport, inputs, load
        self._clock, self._tally = clock, tally
        self._names = {"image": model.image_model, "text": model.text_model}
        self._judge = Judge(model.embedding_dim, model.precision)
        self._lock = threading.Lock()
        self._plan = _plan(load, inputs)
        self._broken = itertools.cycle(broken_images())
        self.lateness = Histogram()
        self.error: BaseException | None = None

    def work(self) -> None:
        """Runs until the plan or the time is over. An error of our own ends the run, and is kept in `error`."""
        try:
            while (planned := self._next()) is not None:
                self._send(planned)
        except BaseException as error:  # noqa: BLE001 - is raised in the main thread
            self.error = error
            self._clock.stop()

    def count_unsent(self) -> None:
        """Counts, once nobody works any more, the requests that were due and were not sent."""
        now_s = self._clock.now_s()
        why = f"all {self._load.clients} clients were still waiting for answers"
        with self._lock:
            for planned in self._plan if self._load.rate is not None else ():
                if planned.start_s is None or planned.start_s > now_s:
                    break
                due_s = planned.start_s - self._load.warmup_s
                if due_s >= 0:
                    self._tally.failed(planned.role, due_s, 0, "not sent", why)

    def _next(self) -> Planned | None:
        end_s = self._load.end_s + (0.0 if self._load.rate is None else GRACE_S)
        with self._lock:
            taken_s = self._clock.now_s()
            planned = None if self._clock.stopped or taken_s >= end_s else next(self._plan, None)
        if planned is None or planned.start_s is None or planned.start_s <= taken_s:
            return planned
        self._clock.wait_until(planned.start_s)
        if self._clock.stopped:
            return None
        with self._lock:
            self.lateness.add(self._clock.now_s() - planned.start_s)
        return planned

    def _send(self, planned: Planned) -> None:
        items = self._items(planned)
        start_s = self._clock.now_s() if planned.start_s is None else planned.start_s
        due_s, num_bytes = start_s - self._load.warmup_s, sum(map(len, items))
        try:
            judged = self._infer(planned, items)
        except ServerError as error:
            failure, end_s = failure_of(error), self._clock.now_s()
            # Whoever interrupts a run also breaks its connections.
            if due_s >= 0 and not self._clock.stopped:
                self._tally.failed(planned.role, due_s, num_bytes, failure, str(error))
            if self._load.rate is None and failure in ("connection", "try again"):
                self._clock.wait_until(end_s + _PAUSE_S)
            return
        end_s = self._clock.now_s() - self._load.warmup_s
        self._tally.answered(planned.role, due_s, end_s, num_bytes, judged)

    def _infer(self, planned: Planned, items: Sequence[bytes]) -> Judged:
        try:
            with sent_with(BULK if self._load.bulk else INTERACTIVE):
                answer = self._transport.infer(
                    self._names[planned.role], planned.role, items, self._load.timeout_s
                )
        except Refused as error:
            if planned.numbers == (BROKEN,) and failure_of(error) == "refused":
                return Judged(0, 1)
            raise
        return self._judge.judge(planned.role, planned.numbers, answer)

    def _items(self, planned: Planned) -> list[bytes]:
        own = self._inputs.images if planned.role == "image" else self._inputs.texts
        return [next(self._broken) if number == BROKEN else own[number] for number in planned.numbers]


def run_load(
    transport: Transport,
    model: ServedModel,
    inputs: Inputs,
    load: Load,
    progress: Callable[[float], None] = lambda now_s: None,
) -> Measured:
    """Sends what `load` says, and measures; Ctrl-C ends it early, with what was measured so far.

    Takes at most `load.end_s + GRACE_S + 3 * load.timeout_s` seconds, and memory that does not grow with them.

    Args:
        progress: called several times a second with the seconds since the beginning.
    """
    _send_first(transport, model, inputs, load)
    # Without a warm-up before the load begins, so that the counts hold all of it.
    before = None if load.warmup_s else _statistics(transport)
    clock, tally = Clock(), Tally(load.duration_s)
    clients = Clients(transport, model, inputs, load, clock, tally)
    measured = Measured(tally, lateness=clients.lateness)
    threads = [threading.Thread(target=clients.work, daemon=True) for _ in range(load.clients)]
    cpu_s, since_s = time.process_time(), 0.0
    try:
        for thread in threads:
            thread.start()
        clock.wait_until(load.warmup_s)
        measured.before, measured.no_statistics = before or _statistics(transport)
        cpu_s, since_s = time.process_time(), clock.now_s()
        _wait(threads, clock, progress)
    except KeyboardInterrupt:
        measured.interrupted = True
        clock.stop()
        for thread in threads:
            thread.join(max(0.0, _LEAVE_S / len(threads)))
    if clients.error is not None:
        raise clients.error
    measured.cpu_share = (time.process_time() - cpu_s) / max(clock.now_s() - since_s, 1e-9)
    clients.count_unsent()
    tally.close()
    measured.elapsed_s = max(0.0, min(clock.now_s() - load.warmup_s, load.duration_s))
    if measured.before is not None:
        measured.after, measured.no_statistics = _statistics(transport)
    return measured


def _send_first(transport: Transport, model: ServedModel, inputs: Inputs, load: Load) -> None:
    """A picture and a text before anything is measured: encoders are loaded and connections opened by them."""
    for name, role, items in (
        (model.image_model, "image", inputs.images if load.image_share > 0 else ()),
        (model.text_model, "text", inputs.texts if load.image_share < 1 else ()),
    ):
        # What fails now is counted when it fails again.
        with contextlib.suppress(ServerError):
            if items:
                transport.infer(name, role, items[:1], load.timeout_s)


def _plan(load: Load, inputs: Inputs) -> Iterator[Planned]:
    mix = Mix(len(inputs.images), len(inputs.texts), load.image_share, load.broken_share, load.batch_size)
    if load.rate is None:
        return plan_closed(mix, load.seed)
    return plan_open(load.rate, load.end_s, mix, load.seed)


def _wait(threads: Sequence[threading.Thread], clock: Clock, progress: Callable[[float], None]) -> None:
    for thread in threads:
        while thread.is_alive():
            thread.join(_LOOK_S)
            progress(clock.now_s())


def _statistics(transport: Transport) -> tuple[list[ModelStatistics] | None, str | None]:
    if not isinstance(transport, HasStatistics):
        return None, "there is no server that counts"
    try:
        return transport.model_statistics(_STATISTICS_S), None
    except ServerError as error:
        return None, str(error)
