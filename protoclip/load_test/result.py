"""The numbers of a run, for JSON, terminal and page alike."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from protoclip.client.discovery import ServedModel
from protoclip.client.embedder import Role

from .caveats import caveats_of
from .failures import FAILURES
from .histogram import Histogram
from .inputs import Inputs
from .run import Measured
from .served import ServedTimes, served_times
from .settings import Load
from .tally import NUM_SLOTS, KindTally, Slot

QUANTILES: Mapping[str, float] = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}
_WIDTHS = (1, 2, 3, 4, 5, 6, 8, 10)
_PER_MOMENT = 50


@dataclass(frozen=True)
class KindResult:
    """Pictures or texts.

    Attributes:
        requests: all that were measured; answered: those that were answered right, and whose latency counts.
        requests_per_s, items_per_s: answered ones, of those whose answers came within the measured time.
        latency_ms: p50, p90, p99, p99.9, mean and max; None without an answer. Of fewer than 1,000 answers p99.9
            is the slowest, of fewer than 100 p99 too.
        refused_as_expected: broken pictures that were refused.
        failures: failed requests by kind; examples: a few messages of each.
        bytes_sent: of inputs.
    """

    requests: int
    answered: int
    requests_per_s: float
    items_per_s: float
    latency_ms: Mapping[str, float | None]
    refused_as_expected: int
    failures: Mapping[str, int]
    examples: Mapping[str, list[str]]
    bytes_sent: int

    @property
    def num_failed(self) -> int:
        """Failed requests of all kinds."""
        return sum(self.failures.values())


@dataclass(frozen=True)
class Moment:
    """An equal part of the measured time: what was due in it. `at_s` is its middle; percentiles are within 1 %."""

    at_s: float
    answered: int
    failed: int
    p50_ms: float | None
    p99_ms: float | None


@dataclass(frozen=True)
class Result:
    """A run.

    Attributes:
        loop: "closed" or "open".
        measured_s: after the warm-up: less than asked for where it was interrupted.
        kinds: by "image" and "text", those of which there were requests.
        timeline: likewise.
        cpu_share: of one core, that sending took; late_p99_ms: how late planned requests were sent for which a
            client was free, None in a closed loop.
        served: None where the server gives no statistics, for the reason in `no_statistics`.
    """

    url: str
    model: str
    precision: str
    loop: str
    settings: Mapping[str, object]
    images_from: str
    texts_from: str
    measured_s: float
    interrupted: bool
    kinds: Mapping[str, KindResult]
    cpu_share: float
    late_p99_ms: float | None
    served: tuple[ServedTimes, ...] | None
    no_statistics: str | None
    warnings: tuple[str, ...]
    timeline: Mapping[str, tuple[Moment, ...]]

    def to_json(self) -> str:
        """All of it, with a line break at the end."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @property
    def num_wrong(self) -> int:
        """Wrong answers."""
        return sum(kind.failures.get("wrong answer", 0) for kind in self.kinds.values())

    @property
    def num_answered(self) -> int:
        """Requests that were answered right, or whose broken picture was refused."""
        return sum(kind.answered + kind.refused_as_expected for kind in self.kinds.values())


def make_result(url: str, model: ServedModel, inputs: Inputs, load: Load, measured: Measured) -> Result:
    """The numbers of what was measured."""
    kinds = {role: kind for role, kind in measured.tally.kinds.items() if kind.requests}
    served, reason = _served(measured, model.prefix)
    return Result(
        url=url,
        model=model.prefix,
        precision=model.precision,
        loop="closed" if load.rate is None else "open",
        settings=asdict(load),
        images_from=inputs.images_from,
        texts_from=inputs.texts_from,
        measured_s=measured.elapsed_s,
        interrupted=measured.interrupted,
        kinds={role: _kind(kind, measured.elapsed_s) for role, kind in kinds.items()},
        cpu_share=measured.cpu_share,
        late_p99_ms=_ms(measured.lateness.quantile_s(0.99)),
        served=served,
        no_statistics=reason,
        warnings=caveats_of(load, measured, in_process="://" not in url),
        timeline=_timeline(kinds, load.duration_s),
    )


def latencies_ms(latency: Histogram) -> dict[str, float | None]:
    """QUANTILES, mean and max in milliseconds."""
    found = {name: _ms(latency.quantile_s(share)) for name, share in QUANTILES.items()}
    return found | {"mean": _ms(latency.mean_s()), "max": _ms(latency.quantile_s(1))}


def _served(measured: Measured, prefix: str) -> tuple[tuple[ServedTimes, ...] | None, str | None]:
    if measured.before is None or measured.after is None:
        return None, measured.no_statistics
    times = served_times(measured.before, measured.after, prefix)
    if times is None:
        return None, "the server was started again during the run, and its counts with it"
    return tuple(times), None


def _kind(kind: KindTally, elapsed_s: float) -> KindResult:
    seconds = max(elapsed_s, 1e-9)
    return KindResult(
        requests=kind.requests,
        answered=kind.latency.count,
        requests_per_s=kind.answered_in_time / seconds,
        items_per_s=kind.items_in_time / seconds,
        latency_ms=latencies_ms(kind.latency),
        refused_as_expected=kind.refused_as_expected,
        failures={failure: kind.failures[failure] for failure in FAILURES if failure in kind.failures},
        examples={failure: kind.examples[failure] for failure in FAILURES if failure in kind.examples},
        bytes_sent=kind.bytes_sent,
    )


def _timeline(kinds: Mapping[Role, KindTally], duration_s: float) -> dict[str, tuple[Moment, ...]]:
    """Of all kinds in the same parts: from 12 to all slots, so many that each has enough answers."""
    answered = sum(kind.latency.count for kind in kinds.values()) / max(len(kinds), 1)
    width = next(size for size in _WIDTHS if size == _WIDTHS[-1] or answered * size / NUM_SLOTS >= _PER_MOMENT)
    width_s = duration_s * width / NUM_SLOTS
    return {
        role: tuple(
            _moment(kind.slots[first : first + width], (place + 0.5) * width_s)
            for place, first in enumerate(range(0, NUM_SLOTS, width))
        )
        for role, kind in kinds.items()
    }


def _moment(slots: Sequence[Slot], at_s: float) -> Moment:
    together = Slot()
    for slot in slots:
        together.latency.merge(slot.latency)
        together.failures += slot.failures
    quantiles = [_ms(together.latency.quantile_s(share)) for share in (0.5, 0.99)]
    return Moment(at_s, together.latency.count, together.failures, *quantiles)


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1e3
