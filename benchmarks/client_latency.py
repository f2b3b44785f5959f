"""What AsyncClient costs beside Client: one text at a time over both protocols, in turn.

python benchmarks/client_latency.py REPOSITORY
"""

from __future__ import annotations

import argparse
import asyncio
import time
from pathlib import Path

import numpy as np

from protoclip.client import AsyncClient, Client
from serving.triton.launcher import TritonServer

WARM_UP = 50


async def measured(url: str, rounds: int) -> tuple[list[float], list[float]]:
    """Milliseconds of each call by Client, and by AsyncClient."""
    direct, awaited = [], []
    async with AsyncClient(url) as twin:
        with Client(url) as client:
            for _ in range(rounds):
                start = time.perf_counter()
                client.embed_texts("red shoes")
                direct.append((time.perf_counter() - start) * 1e3)
                start = time.perf_counter()
                await twin.embed_texts("red shoes")
                awaited.append((time.perf_counter() - start) * 1e3)
    return direct[WARM_UP:], awaited[WARM_UP:]


def main() -> None:
    """Prints p50 and p90 of both over each protocol."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("repository", type=Path)
    parser.add_argument("--rounds", type=int, default=1000)
    options = parser.parse_args()
    with TritonServer(options.repository) as server:
        for url in (server.grpc_url, server.http_url):
            direct, awaited = asyncio.run(measured(url, options.rounds))
            for name, times in (("Client", direct), ("AsyncClient", awaited)):
                p50, p90 = np.percentile(times, [50, 90])
                print(f"{url.partition(':')[0]:5} {name:12} p50 {p50:.2f} ms, p90 {p90:.2f} ms")
            print(f"      AsyncClient / Client, p50: {np.median(awaited) / np.median(direct):.2f}")


if __name__ == "__main__":
    main()
