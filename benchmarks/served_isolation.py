"""What a single picture waits while others embed in bulk or send large pictures, and what queue delays cost.

    python benchmarks/served_isolation.py artifacts/demo --rounds 5 --out benchmarks/served_isolation.md

One server for each way to schedule, all running; every round asks each of them in turn. Needs the embedded server.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from protoclip import Client
from protoclip.contract.errors import ServerError
from protoclip.contract.files import write_text
from serving.triton.launcher import TritonServer
from serving.triton.repository import write_repository
from serving.triton.scheduling import Scheduling

SECONDS = 4.0
PAUSE_S = 0.02
WAYS = {
    "default": Scheduling(),
    "delay of 1 ms": Scheduling(queue_delay_us=1000),
    "batches of 64, one process": Scheduling(bulk_batch_size=64, preprocess_instances=1),
}


@dataclass
class Measured:
    """Milliseconds of single requests by load, and pictures a second by number of clients."""

    waits_ms: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    rates: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    measured = {name: Measured() for name in WAYS}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        urls = {}
        for number, (name, scheduling) in enumerate(WAYS.items()):
            write_repository(given.artifact, folder / str(number), scheduling=scheduling)
            urls[name] = stack.enter_context(TritonServer(folder / str(number))).grpc_url
        for _ in range(given.rounds):
            for name, url in urls.items():
                _one_round(url, measured[name])
    text = _table(measured)
    print(text)
    if given.out:
        write_text(given.out, text)


def _one_round(url: str, measured: Measured) -> None:
    pictures = [_picture(256, seed) for seed in range(32)]
    measured.waits_ms["idle"] += _single(url, pictures)
    for clients in (8, 32):
        measured.rates[f"{clients} clients, single pictures"].append(_rate(url, pictures, clients))
    done: list[int] = []
    with _running(url, 1, lambda client: _bulk(client, pictures, done)):
        began = time.perf_counter()
        measured.waits_ms["one client embeds in bulk"] += _single(url, pictures)
        measured.rates["the bulk client meanwhile"].append(sum(done) / (time.perf_counter() - began))
    large = [_large()]
    with _running(url, 8, lambda client: _ask(client, large)):
        measured.waits_ms["eight clients send 99 megapixels"] += _single(url, pictures)


def _single(url: str, pictures: list[bytes]) -> list[float]:
    waits = []
    with Client(url, timeout_s=60) as client:
        client.embed_images(pictures[0])
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            began = time.perf_counter()
            client.embed_images(pictures[len(waits) % len(pictures)])
            waits.append(1e3 * (time.perf_counter() - began))
            time.sleep(PAUSE_S)
    return waits


def _bulk(client: Client, pictures: list[bytes], done: list[int]) -> None:
    for part in client.stream_images(pictures * 8):
        done.append(len(part.vectors))


def _ask(client: Client, pictures: list[bytes]) -> bool:
    """Whether there was an answer."""
    with suppress(ServerError):
        client.embed_images(pictures)
        return True
    return False


def _rate(url: str, pictures: list[bytes], clients: int) -> float:
    done: list[int] = []

    def ask(client: Client) -> None:
        if _ask(client, pictures[:1]):
            done.append(1)

    began = time.perf_counter()
    with _running(url, clients, ask):
        time.sleep(SECONDS / 2)
    return len(done) / (time.perf_counter() - began)


@contextmanager
def _running(url: str, threads: int, work: Callable[[Client], object]) -> Iterator[None]:
    """`work` again and again in so many threads, each with a client of its own, until the block ends."""
    end = threading.Event()

    def loop() -> None:
        with Client(url, timeout_s=60) as client:
            while not end.is_set():
                work(client)

    running = [threading.Thread(target=loop) for _ in range(threads)]
    for thread in running:
        thread.start()
    time.sleep(0.3)
    try:
        yield
    finally:
        end.set()
        for thread in running:
            thread.join()


def _picture(side: int, seed: int) -> bytes:
    stream = io.BytesIO()
    small = np.random.default_rng(seed).integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8)
    Image.fromarray(small).resize((side, side)).save(stream, "JPEG")
    return stream.getvalue()


def _large() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (9900, 10_000), (90, 120, 40)).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def _table(measured: dict[str, Measured]) -> str:
    lines = ["| | " + " | ".join(measured) + " |", "|---" * (len(measured) + 1) + "|"]
    first = next(iter(measured.values()))
    for load in first.waits_ms:
        cells = [_percentiles(found.waits_ms[load]) for found in measured.values()]
        lines.append(f"| {load}: p50 / p99 of a single picture, ms | " + " | ".join(cells) + " |")
    for what in first.rates:
        cells = [f"{np.median(found.rates[what]):.0f}" for found in measured.values()]
        lines.append(f"| {what}, pictures/s | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _percentiles(values: list[float]) -> str:
    return f"{np.percentile(values, 50):.1f} / {np.percentile(values, 99):.1f}"


if __name__ == "__main__":
    main()
