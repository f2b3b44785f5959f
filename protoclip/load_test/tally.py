"""Counts of a run, for pictures and texts apart, in a fixed amount of memory."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from protoclip.client.embedder import Role

from .answers import Judged
from .failures import Failure
from .histogram import Histogram

NUM_SLOTS = 120
_EXAMPLES = 3
_SLOT_RATIO = 1.02


@dataclass
class Slot:
    """An equal part of the measured time: the requests that were due in it."""

    latency: Histogram = field(default_factory=lambda: Histogram(_SLOT_RATIO))
    failures: int = 0


@dataclass
class KindTally:
    """Of pictures or of texts.

    Attributes:
        requests: that were measured, those that failed included.
        latency: of requests that were answered right.
        answered_in_time, items_in_time: of requests that were answered right within the measured time, those sent
            during the warm-up included: the rates are of them.
        refused_as_expected: broken pictures that were refused.
        failures: failed requests by kind.
        examples: a few messages of each kind.
        bytes_sent: of inputs, without what the protocol adds.
    """

    requests: int = 0
    latency: Histogram = field(default_factory=Histogram)
    answered_in_time: int = 0
    items_in_time: int = 0
    refused_as_expected: int = 0
    failures: dict[Failure, int] = field(default_factory=dict)
    examples: dict[Failure, list[str]] = field(default_factory=dict)
    bytes_sent: int = 0
    slots: list[Slot] = field(default_factory=lambda: [Slot() for _ in range(NUM_SLOTS)])


class Tally:
    """Counts requests that were due in the `duration_s` seconds after the warm-up. Threads may share it."""

    def __init__(self, duration_s: float) -> None:
        self._duration_s = duration_s
        self._slot_s = duration_s / NUM_SLOTS
        self._lock = threading.Lock()
        self._closed = False
        self.kinds: dict[Role, KindTally] = {"image": KindTally(), "text": KindTally()}

    def close(self) -> None:
        """What comes later, of threads that are left behind, is not counted."""
        with self._lock:
            self._closed = True

    def answered(self, role: Role, due_s: float, end_s: float, num_bytes: int, judged: Judged) -> None:
        """Counts an answer, whose latency is from when it was due to its end; both since the warm-up.

        One that was due before counts for the rates alone.
        """
        with self._lock:
            if self._closed:
                return
            if judged.num_good and judged.wrong is None and judged.refused is None:
                self._count_in_time(self.kinds[role], end_s, judged.num_good)
            if due_s < 0:
                return
            kind = self._begin(role, num_bytes)
            kind.refused_as_expected += judged.num_refused
            if judged.wrong is not None:
                self._fail(kind, due_s, "wrong answer", judged.wrong)
            elif judged.refused is not None:
                self._fail(kind, due_s, "refused", judged.refused)
            elif judged.num_good:
                kind.latency.add(end_s - due_s)
                self._slot(kind, due_s).latency.add(end_s - due_s)

    def failed(self, role: Role, due_s: float, num_bytes: int, failure: Failure, why: str) -> None:
        """Counts a request without an answer."""
        with self._lock:
            if self._closed:
                return
            self._fail(self._begin(role, num_bytes), due_s, failure, why)

    def _count_in_time(self, kind: KindTally, end_s: float, num_items: int) -> None:
        if 0 <= end_s <= self._duration_s:
            kind.answered_in_time += 1
            kind.items_in_time += num_items

    def _begin(self, role: Role, num_bytes: int) -> KindTally:
        kind = self.kinds[role]
        kind.requests += 1
        kind.bytes_sent += num_bytes
        return kind

    def _fail(self, kind: KindTally, due_s: float, failure: Failure, why: str) -> None:
        kind.failures[failure] = kind.failures.get(failure, 0) + 1
        self._slot(kind, due_s).failures += 1
        examples = kind.examples.setdefault(failure, [])
        if why not in examples and len(examples) < _EXAMPLES:
            examples.append(why)

    def _slot(self, kind: KindTally, due_s: float) -> Slot:
        return kind.slots[min(max(int(due_s / self._slot_s), 0), NUM_SLOTS - 1)]
