"""How much processor time a gateway itself takes for a request, whatever else the machine does.

    python benchmarks/gateway_cpu.py ARTIFACT

User and system time of the gateway's process, which other work on the machine changes little: so two versions can
be compared where their latencies can not. One request at a time, then 16 at once; of some blocks each the median.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from gateway_cases import CONCURRENCY, Case, Work, cpu_s, running

WARM_UP = 100


@dataclass(frozen=True)
class Cost:
    """Microseconds of the gateway's processor time for a request, one at a time and CONCURRENCY at once."""

    name: str
    alone_us: float
    crowded_us: float


def cost_of(case: Case, gateway_pid: int, requests: int, blocks: int) -> Cost:
    """`blocks` of `requests` on either way."""
    alone, crowd = [case.through()], [case.through() for _ in range(CONCURRENCY)]
    _ask(alone, WARM_UP)
    _ask(crowd, WARM_UP)
    spent = [[_spent_us(works, gateway_pid, requests) for works in (alone, crowd)] for _ in range(blocks)]
    return Cost(case.name, *(statistics.median(column) for column in zip(*spent, strict=True)))


def _spent_us(works: Sequence[Work], gateway_pid: int, requests: int) -> float:
    before_s = cpu_s(gateway_pid)
    asked = _ask(works, requests)
    return (cpu_s(gateway_pid) - before_s) / asked * 1e6


def _ask(works: Sequence[Work], requests: int) -> int:
    """Sends about so many, by as many threads as there are `works`; how many it were."""
    each = -(-requests // len(works))

    def repeat(work: Work) -> None:
        for _ in range(each):
            work()

    with ThreadPoolExecutor(len(works)) as threads:
        list(threads.map(repeat, works))
    return each * len(works)


def main() -> int:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--requests", type=int, default=500, help="of a block")
    parser.add_argument("--blocks", type=int, default=3, help="of each case")
    parser.add_argument("--only", default="", help="cases whose name holds this")
    arguments = parser.parse_args()
    print(f"| request | µs, one at a time | µs, {CONCURRENCY} at once |\n|---|---:|---:|")
    with running(arguments.artifact) as (cases, gateway_pid):
        for case in cases:
            if arguments.only in case.name:
                cost = cost_of(case, gateway_pid, arguments.requests, arguments.blocks)
                print(f"| {cost.name} | {cost.alone_us:.0f} | {cost.crowded_us:.0f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
