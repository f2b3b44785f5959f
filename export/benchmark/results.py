"""A benchmark's results as plain values, and the choice of an engine.

A candidate is a runtime with a precision: `onnx_int8`, `torch_bf16`. A cell is one row of the table: one
encoder of one candidate at one batch size.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

import numpy as np

from protoclip.contract.manifest import Precision
from protoclip.contract.speed_margin import worth_serving

EncoderName = Literal["image", "text"]
# Fewer calls have no meaningful 99th percentile.
MIN_CALLS_P99 = 30


@dataclass(frozen=True)
class Accuracy:
    """Whether a candidate passes the gate of its precision.

    `origin`: the manifest's verdict, measured now against the reference, or the reference itself, whose
    cosine and difference are None.
    """

    passed: bool
    origin: Literal["manifest", "measured", "reference"]
    min_centred_cosine: float | None = None
    max_abs_difference: float | None = None
    failures: tuple[str, ...] = ()


@dataclass(frozen=True)
class CandidateResult:
    """A candidate that ran.

    Attributes:
        engine: the artifact's engine that a server would run this way; None for candidates to compare with.
        backend: its runtime with the version.
        num_bytes: both encoders' files; of torch the size of the weights.
        accuracy: None where there was nothing to compare with.
    """

    name: str
    engine: str | None
    precision: Precision
    backend: str
    num_bytes: int
    accuracy: Accuracy | None

    @property
    def passed(self) -> bool:
        return self.accuracy is not None and self.accuracy.passed


@dataclass(frozen=True)
class Cell:
    """One candidate's encoder at one batch size.

    Attributes:
        items_per_s: the median over the rounds.
        p99_ms: of the calls of all rounds; the slowest of them where `p99_is_maximum`.
        memory_bytes: peak of the candidate beyond its libraries, both encoders loaded; None: unknown.
    """

    candidate: str
    encoder: EncoderName
    batch: int
    items_per_s: float
    p50_ms: float
    p99_ms: float
    p99_is_maximum: bool
    calls: int
    memory_bytes: int | None


@dataclass(frozen=True)
class Missing:
    """A candidate, a group of candidates, or a candidate's batch size that was not measured, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Choice:
    """The engine to serve, and the largest batch to allow."""

    candidate: str
    engine: str
    batch: int
    items_per_s: float
    p99_ms: float


def make_cell(
    candidate: str, encoder: EncoderName, batch: int, rounds: Sequence[Sequence[float]], memory_bytes: int | None
) -> Cell:
    """The cell of `rounds`, each with the seconds of its calls, at least one; raises ValueError for no rounds."""
    calls = np.concatenate([np.asarray(seconds, dtype=np.float64) for seconds in rounds])
    few = len(calls) < MIN_CALLS_P99
    return Cell(
        candidate=candidate,
        encoder=encoder,
        batch=batch,
        items_per_s=median(batch * len(seconds) / sum(seconds) for seconds in rounds),
        p50_ms=1e3 * float(np.median(calls)),
        p99_ms=1e3 * float(calls.max() if few else np.percentile(calls, 99)),
        p99_is_maximum=few,
        calls=len(calls),
        memory_bytes=memory_bytes,
    )


def choose(
    candidates: Sequence[CandidateResult], cells: Iterable[Cell], max_latency_ms: float | None = None
) -> Choice | None:
    """The engine and batch size with the highest throughput; None where none qualifies.

    Only engines that passed their gate are considered, and only batch sizes at which the p99 latency of
    every measured encoder is at most `max_latency_ms`. Throughput is that of the image encoder, or of the
    text encoder where only that was measured. Among equals the smaller batch is taken. An engine of lower
    precision has to be 1.3 times as fast as the best of higher ones, and one in OpenVINO as much faster than
    others of its precision (`protoclip.contract.speed_margin`).
    """
    precisions = {candidate.name: candidate.precision for candidate in candidates}
    best: dict[str, Choice] = {}
    for choice in _choices(candidates, cells):
        if max_latency_ms is None or choice.p99_ms <= max_latency_ms:
            there = best.setdefault(choice.candidate, choice)
            best[choice.candidate] = max(there, choice, key=lambda one: (one.items_per_s, -one.batch))
    speeds = {name: (precisions[name], choice.items_per_s) for name, choice in best.items()}
    in_openvino = {candidate.name for candidate in candidates if candidate.backend.startswith("OpenVINO ")}
    name = worth_serving(speeds, in_openvino)
    return None if name is None else best[name]


def nearest(candidates: Iterable[CandidateResult], cells: Iterable[Cell]) -> Choice | None:
    """The engine and batch size with the lowest p99 latency; None where no engine passed its gate."""
    return min(_choices(candidates, cells), key=lambda choice: choice.p99_ms, default=None)


def _choices(candidates: Iterable[CandidateResult], cells: Iterable[Cell]) -> list[Choice]:
    engines = {
        candidate.name: candidate.engine
        for candidate in candidates
        if candidate.passed and candidate.engine is not None
    }
    found: dict[tuple[str, int], list[Cell]] = {}
    for cell in cells:
        if cell.candidate in engines:
            found.setdefault((cell.candidate, cell.batch), []).append(cell)
    return [
        Choice(
            candidate=candidate,
            engine=engines[candidate],
            batch=batch,
            items_per_s=min(both, key=lambda cell: cell.encoder).items_per_s,
            p99_ms=max(cell.p99_ms for cell in both),
        )
        for (candidate, batch), both in found.items()
    ]
