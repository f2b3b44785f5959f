"""The loops on a clock of the test's own: what a latency is, and what happens when a server does not keep up."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from protoclip.client.discovery import ServedModel
from protoclip.client.errors import DeadlineExceeded, Refused, busy
from protoclip.client.transport import Answer, ModelConfig
from protoclip.load_test.clock import Clock
from protoclip.load_test.inputs import Inputs
from protoclip.load_test.plan import poisson_starts
from protoclip.load_test.result import make_result
from protoclip.load_test.run import Clients, run_load
from protoclip.load_test.settings import Load
from protoclip.load_test.tally import Tally

MODEL = ServedModel("t", "t_000000", "000000", 2, 1.0, None, "softmax", "fp32", "passed", "onnx_fp32", 8, 8)
INPUTS = Inputs((b"a", b"bb"), (b"text",), "", "")
ANSWER = np.array([[1, 0]], dtype=np.float32)


class FakeClock(Clock):
    """Moves only when it is waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.time_s = 0.0

    def now_s(self) -> float:
        return self.time_s

    def wait_until(self, moment_s: float) -> None:
        self.time_s = max(self.time_s, moment_s)


class SlowTransport:
    """A request takes as long as `service_s` says of the moment at which it is sent; or it raises."""

    url = "fake://"

    def __init__(
        self, clock: FakeClock, service_s: Callable[[float], float], error: Exception | None = None
    ) -> None:
        self._clock, self._service_s, self._error = clock, service_s, error

    def infer(self, model: str, input_name: str, items: Sequence[bytes], timeout_s: float | None) -> Answer:
        self._clock.time_s += self._service_s(self._clock.time_s)
        if self._error is not None:
            raise self._error
        return Answer(ANSWER, ("",))

    def ready_models(self, timeout_s: float | None) -> list[str]:
        return []

    def model_config(self, model: str, timeout_s: float | None) -> ModelConfig:
        raise NotImplementedError

    def close(self) -> None:
        pass


def work(load: Load, service_s: Callable[[float], float], error: Exception | None = None) -> tuple[Tally, Clients]:
    clock, tally = FakeClock(), Tally(load.duration_s)
    clients = Clients(SlowTransport(clock, service_s, error), MODEL, INPUTS, load, clock, tally)
    clients.work()
    clients.count_unsent()
    assert clients.error is None
    return tally, clients


def standstill(now_s: float) -> float:
    """1 ms, but for a server that does not answer from second 4 to 6."""
    return 6 - now_s if 4 <= now_s < 6 else 0.001


def test_a_standstill_is_seen_by_all_who_came_meanwhile() -> None:
    """Coordinated omission: the closed loop sees one slow request, the open one two seconds' worth."""
    closed, _ = work(Load(clients=1, duration_s=10, warmup_s=0), standstill)
    slow = closed.kinds["image"].latency
    assert slow.max_s == pytest.approx(2, abs=0.002)
    assert slow.quantile_s(0.999) == pytest.approx(0.001, rel=0.01)
    opened, _ = work(Load(clients=1, rate=100, duration_s=10, warmup_s=0), standstill)
    latency = opened.kinds["image"].latency
    starts = np.array(list(poisson_starts(100, 10, 0)))
    ends, free_s = [], 0.0
    for start_s in starts:
        free_s = max(start_s, free_s)
        free_s += standstill(free_s)
        ends.append(free_s)
    expected = np.array(ends) - starts
    assert latency.count == len(starts)
    for share in (0.5, 0.85, 0.99):
        exact = np.quantile(expected, share, method="inverted_cdf")
        assert latency.quantile_s(share) == pytest.approx(exact, rel=0.003)
    assert latency.quantile_s(0.9) > 0.9


def test_what_a_slow_server_left_unsent_is_counted() -> None:
    load = Load(clients=1, rate=10, duration_s=10, warmup_s=0)
    tally, _ = work(load, lambda now_s: 1.0)
    kind = tally.kinds["image"]
    num_planned = len(list(poisson_starts(10, 10, 0)))
    assert kind.latency.count + kind.failures["not sent"] == num_planned
    assert kind.latency.count == pytest.approx(11, abs=1)
    assert set(kind.examples) == {"not sent"}


def test_the_warm_up_is_not_counted() -> None:
    tally, _ = work(Load(clients=1, duration_s=5, warmup_s=5), lambda now_s: 2.0 if now_s < 5 else 0.01)
    assert tally.kinds["image"].latency.max_s == pytest.approx(0.01)
    opened, _ = work(Load(clients=1, rate=20, duration_s=5, warmup_s=5), lambda now_s: 0.0)
    assert opened.kinds["image"].requests == sum(start_s >= 5 for start_s in poisson_starts(20, 10, 0))


def test_rates_are_of_what_ends_in_the_measured_time() -> None:
    tally, _ = work(Load(clients=1, duration_s=6, warmup_s=5), lambda now_s: 2.0)
    kind = tally.kinds["image"]
    # Sent at 4, 6 and 8 and answered until 10; the request of second 10 is answered after the end, 11.
    assert (kind.answered_in_time, kind.items_in_time, kind.latency.count) == (3, 3, 3)


def test_a_late_timeout_lowers_no_rate() -> None:
    class OneLate(SlowTransport):
        calls = itertools.count()

        def infer(self, model: str, input_name: str, items: Sequence[bytes], timeout_s: float | None) -> Answer:
            late = next(self.calls) == 1
            time.sleep(1.5 if late else 0.001)
            if late:
                raise DeadlineExceeded("late")
            return Answer(ANSWER, ("",))

    load = Load(clients=2, duration_s=0.5, warmup_s=0)
    measured = run_load(OneLate(FakeClock(), lambda now_s: 0.0), MODEL, INPUTS, load)
    kind = measured.tally.kinds["image"]
    assert kind.failures == {"timeout": 1}
    assert measured.elapsed_s == 0.5
    assert kind.latency.count - 2 <= kind.answered_in_time <= kind.latency.count
    found = make_result("fake://", MODEL, INPUTS, load, measured)
    assert found.kinds["image"].requests_per_s == kind.answered_in_time / 0.5


def test_starts_on_time_are_not_late() -> None:
    _, clients = work(Load(clients=1, rate=20, duration_s=5, warmup_s=0), lambda now_s: 0.0)
    assert clients.lateness.max_s == 0


def test_a_closed_loop_does_not_hammer_a_server_that_is_away() -> None:
    error = busy("fake://", "no more")
    tally, _ = work(Load(clients=1, duration_s=5, warmup_s=0), lambda now_s: 0.0, error)
    kind = tally.kinds["image"]
    assert kind.requests == kind.failures["try again"] == pytest.approx(50, abs=1)


@pytest.mark.parametrize(
    ("error", "failure"),
    [(DeadlineExceeded("late"), "timeout"), (Refused("fake://", "no"), "refused")],
)
def test_failures_have_no_latency(error: Exception, failure: str) -> None:
    tally, _ = work(Load(clients=1, duration_s=5, warmup_s=0), lambda now_s: 0.5, error)
    kind = tally.kinds["image"]
    assert (kind.failures, kind.latency.count) == ({failure: 10}, 0)
    assert sum(slot.failures for slot in kind.slots) == 10


def test_a_refused_broken_picture_is_no_failure() -> None:
    load = Load(clients=1, duration_s=5, warmup_s=0, broken_share=1.0)
    tally, _ = work(load, lambda now_s: 0.5, Refused("fake://", "not a picture"))
    kind = tally.kinds["image"]
    assert (kind.refused_as_expected, kind.failures, kind.latency.count) == (10, {}, 0)


def test_an_accepted_broken_picture_is_a_wrong_answer() -> None:
    tally, _ = work(Load(clients=1, duration_s=5, warmup_s=0, broken_share=1.0), lambda now_s: 0.5)
    assert tally.kinds["image"].failures == {"wrong answer": 10}


def test_an_error_of_our_own_ends_the_run() -> None:
    clock, tally = FakeClock(), Tally(5)
    transport = SlowTransport(clock, lambda now_s: 0.1, RuntimeError("broken"))
    clients = Clients(transport, MODEL, INPUTS, Load(clients=1), clock, tally)
    clients.work()
    assert isinstance(clients.error, RuntimeError)
    assert clock.stopped
