"""What the gateway costs a request: the same work through it, and by the client straight at Triton, in turn.

    python benchmarks/gateway_latency.py ARTIFACT --result benchmarks/gateway_latency_2cores_202611.md

One at a time, in turn, for latency; then by 16 clients at once, in blocks that take turns, for throughput. The
clients run in a process of their own, as Triton and the gateway do. Exit code 1 where the gateway adds more than
2 ms at p50, or leaves less than 90 % of the throughput.
"""

from __future__ import annotations

import argparse
import platform
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gateway_cases import CONCURRENCY, Case, Work, cpu_s, running

WARM_UP = 30
MOST_ADDED_MS = 2.0
LEAST_SHARE = 0.9


@dataclass(frozen=True)
class Measured:
    """Milliseconds of single requests, requests a second of 16 at once, and the gateway's CPU time of one."""

    name: str
    straight_ms: np.ndarray
    through_ms: np.ndarray
    straight_rps: float
    through_rps: float
    cpu_ms: float

    @property
    def added_ms(self) -> float:
        """At p50."""
        return float(np.median(self.through_ms) - np.median(self.straight_ms))

    @property
    def share(self) -> float:
        """Of the throughput that is left."""
        return self.through_rps / self.straight_rps


def measure(case: Case, gateway_pid: int, requests: int, seconds: float, blocks: int) -> Measured:
    """Both ways, in turn."""
    straight, through = case.straight(), case.through()
    for _ in range(WARM_UP):
        straight(), through()
    before_s = cpu_s(gateway_pid)
    times = np.array([[_timed(straight), _timed(through)] for _ in range(requests)])
    cpu_ms = (cpu_s(gateway_pid) - before_s) / requests * 1e3
    rates = np.array([[_rate(case.straight, seconds), _rate(case.through, seconds)] for _ in range(blocks)])
    rps = np.median(rates, axis=0)
    return Measured(case.name, times[:, 0], times[:, 1], float(rps[0]), float(rps[1]), cpu_ms)


def _timed(work: Work) -> float:
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1e3


def _rate(make: Callable[[], Work], seconds: float) -> float:
    """Requests a second of CONCURRENCY threads."""
    counts = [0] * CONCURRENCY
    works = [make() for _ in range(CONCURRENCY)]
    failures: list[BaseException] = []
    end = time.perf_counter() + seconds

    def repeat(place: int) -> None:
        try:
            while time.perf_counter() < end:
                works[place]()
                counts[place] += 1
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=repeat, args=(place,)) for place in range(CONCURRENCY)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
    return sum(counts) / (time.perf_counter() - start)


def run(artifact: Path, requests: int, seconds: float, blocks: int) -> list[Measured]:
    """All cases, in turn."""
    with running(artifact) as (found, gateway_pid):
        return [measure(case, gateway_pid, requests, seconds, blocks) for case in found]


def report(found: list[Measured], requests: int, seconds: float, blocks: int) -> str:
    """Markdown."""
    rows = [_row(one) for one in found]
    lines = [
        "# What the gateway costs a request",
        "",
        f"Latency: {requests} requests on either way, in turn, one at a time, in milliseconds. Throughput: "
        f"{CONCURRENCY} at once, the median of {blocks} blocks of {seconds:g} s on either way, in turn, in "
        "requests a second. CPU: what the gateway itself used for a request of the first kind, in milliseconds. "
        "Load, gateway and Triton share the processor. "
        f"Python {platform.python_version()}, {platform.machine()}. By `benchmarks/gateway_latency.py`.",
        "",
        "| request | straight p50 | gateway p50 | difference | straight p99 | gateway p99 | straight/s | "
        "gateway/s | share | CPU |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
        *rows,
        "",
    ]
    return "\n".join(lines)


def _row(one: Measured) -> str:
    p50, p99 = (
        [float(np.percentile(times, share)) for times in (one.straight_ms, one.through_ms)] for share in (50, 99)
    )
    return (
        f"| {one.name} | {p50[0]:.2f} | {p50[1]:.2f} | {one.added_ms:+.2f} | {p99[0]:.1f} | {p99[1]:.1f} | "
        f"{one.straight_rps:.0f} | {one.through_rps:.0f} | {one.share:.0%} | {one.cpu_ms:.2f} |"
    )


def main() -> int:
    """Writes a table; 1 where the gateway costs more than it may."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--requests", type=int, default=300, help="of each kind, on either way")
    parser.add_argument("--seconds", type=float, default=4.0, help="of a block")
    parser.add_argument("--blocks", type=int, default=3, help="on either way")
    parser.add_argument("--result", type=Path)
    arguments = parser.parse_args()
    found = run(arguments.artifact, arguments.requests, arguments.seconds, arguments.blocks)
    text = report(found, arguments.requests, arguments.seconds, arguments.blocks)
    print(text)
    if arguments.result:
        fresh = arguments.result.with_suffix(".new")
        fresh.write_text(text, encoding="utf-8")
        fresh.rename(arguments.result)
    kept = all(one.added_ms <= MOST_ADDED_MS and one.share >= LEAST_SHARE for one in found)
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
