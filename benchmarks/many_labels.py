"""What 10,000 cached classes cost a call of `Client.classify`, beside ten of them, in turn.

    python benchmarks/many_labels.py --labels 10000 --calls 200

The model answers at once with a fixed vector, so that what is left is the client's own time: keys, cosines,
probabilities, the answer. `D` is 512. Times are of one thread's wall clock; compare only rows of one run.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable

import numpy as np

from protoclip.client import Client, InMemoryTransport, MemoryModel

DIM = 512


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=int, default=10_000)
    parser.add_argument("--calls", type=int, default=200)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    fixed = rng.standard_normal((64, DIM))
    fixed /= np.linalg.norm(fixed, axis=1, keepdims=True)

    def embed(item: object) -> list[float]:
        return fixed[len(str(item)) % len(fixed)].tolist()

    labels = [f"label number {number}, with a comma" for number in range(options.labels)]
    with Client(transport=InMemoryTransport(MemoryModel(embed, embed, DIM)), timeout_s=None) as client:
        bank = client.class_bank(labels)
        kinds: dict[str, Callable[[], object]] = {
            "10 labels": lambda: client.classify(b"picture", labels[:10]),
            f"{options.labels:,} labels, all in the answer": lambda: client.classify(b"picture", labels),
            f"{options.labels:,} labels, top_k=5": lambda: client.classify(b"picture", labels, top_k=5),
            f"{options.labels:,} in a ClassBank, top_k=5": lambda: client.classify(b"picture", bank, top_k=5),
        }
        print(f"{platform.machine()}, {os.cpu_count()} cores, {options.calls} calls in turn\n")
        print("| a call with | p50 ms | p95 ms |\n|---|---|---|")
        for name, times in _measure(kinds, options.calls).items():
            print(f"| {name} | {np.percentile(times, 50):.2f} | {np.percentile(times, 95):.2f} |")


def _measure(kinds: dict[str, Callable[[], object]], calls: int) -> dict[str, list[float]]:
    """Milliseconds by kind; the first call of each fills the cache and isn't counted."""
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for name in kinds:
        kinds[name]()
    for _ in range(calls):
        for name, call in kinds.items():
            begun = time.perf_counter()
            call()
            times[name].append(1000 * (time.perf_counter() - begun))
    return times


if __name__ == "__main__":
    main()
