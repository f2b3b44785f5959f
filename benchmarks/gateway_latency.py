"""What the gateway costs a request: the same work through it, and by the client straight at Triton, in turn.

    python benchmarks/gateway_latency.py ARTIFACT --result benchmarks/gateway_latency_2cores_202611.md

One at a time, in turn, for latency; then by 16 clients at once, in blocks that take turns, for throughput. The
clients run in a process of their own, as Triton and the gateway do. Exit code 1 where the gateway adds more than
2 ms at p50, or leaves less than 90 % of the throughput.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
from PIL import Image

from protoclip.cli.gateway_beside import GatewayBeside
from protoclip.client import Client
from protoclip.search import Index
from serving.gateway.settings import make_settings
from serving.triton.launcher import TritonServer
from serving.triton.repository import write_repository

CONCURRENCY = 16
WARM_UP = 30
MOST_ADDED_MS = 2.0
LEAST_SHARE = 0.9
ENTRIES = 1000
Work = Callable[[], None]


@dataclass(frozen=True)
class Case:
    """One kind of work on both ways; each maker gives what one thread calls again and again."""

    name: str
    straight: Callable[[], Work]
    through: Callable[[], Work]


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


def photo(width: int, height: int) -> bytes:
    """A JPEG with smooth parts and noise, as a camera's."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:height, 0:width]
    planes = np.stack([255 * x / width, 255 * y / height, 128 + 60 * np.sin(x / 30)], axis=-1)
    noisy = np.clip(planes + rng.normal(0, 8, planes.shape), 0, 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noisy).save(stream, "JPEG", quality=88)
    return stream.getvalue()


def poster(port: int, path: str, body: bytes, headers: dict[str, str]) -> Callable[[], Work]:
    """Posts on a connection that each thread keeps."""

    def make() -> Work:
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        connection.connect()

        def post() -> None:
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            text = answer.read()
            assert answer.status == 200, text[:300]

        return post

    return make


def form(picture: bytes) -> tuple[bytes, dict[str, str]]:
    """A search by a picture, as a form."""
    head = b'--b\r\nContent-Disposition: form-data; name="picture"; filename="a.jpg"\r\n\r\n'
    return head + picture + b"\r\n--b--\r\n", {"Content-Type": "multipart/form-data; boundary=b"}


def cases(grpc: Client, http: Client, index: Index, gateway_url: str) -> list[Case]:
    """Pictures of two sizes and texts; by KServe and by search."""
    port = int(gateway_url.rpartition(":")[2])
    large, small = photo(1000, 750), photo(300, 225)
    through = Client(gateway_url, concurrency=CONCURRENCY)
    json_type = {"Content-Type": "application/json"}
    text = json.dumps({"text": "red shoes"}).encode()
    return [
        Case(
            "KServe, picture 1000 × 750",
            lambda: lambda: _embed(http, large),
            lambda: lambda: _embed(through, large),
        ),
        Case(
            "KServe, picture 300 × 225",
            lambda: lambda: _embed(http, small),
            lambda: lambda: _embed(through, small),
        ),
        Case("KServe, text", lambda: lambda: _embed_text(http), lambda: lambda: _embed_text(through)),
        Case(
            "search by picture 1000 × 750",
            lambda: lambda: _search(grpc, index, image=large),
            poster(port, "/search", *form(large)),
        ),
        Case(
            "search by picture 300 × 225",
            lambda: lambda: _search(grpc, index, image=small),
            poster(port, "/search", *form(small)),
        ),
        Case(
            "search by text",
            lambda: lambda: _search(grpc, index, text="red shoes"),
            poster(port, "/search", text, json_type),
        ),
    ]


def _embed(client: Client, picture: bytes) -> None:
    client.embed_images(picture)


def _embed_text(client: Client) -> None:
    client.embed_texts("red shoes")


def _search(client: Client, index: Index, **wanted: object) -> None:
    client.search(index, **wanted)  # type: ignore[arg-type]


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


def cpu_s(pid: int) -> float:
    """What a process has used of the processor, user and system; other work on the machine hardly changes it."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


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
    """All cases, on a Triton and a gateway of its own."""
    with tempfile.TemporaryDirectory() as folder:
        write_repository(artifact, Path(folder) / "repository")
        with (
            TritonServer(Path(folder) / "repository") as server,
            Client(server.grpc_url, concurrency=CONCURRENCY) as grpc,
            Client(server.http_url, concurrency=CONCURRENCY) as http,
        ):
            index = _index(Path(folder) / "index", grpc)
            settings = make_settings(
                url=server.grpc_url,
                kserve_url=server.http_url,
                port=0,
                indexes={"shop": index.path},
                log_json=True,
            )
            gateway = GatewayBeside(settings)
            try:
                gateway.wait_until_ready(60)
                return [
                    measure(case, gateway.pid, requests, seconds, blocks)
                    for case in cases(grpc, http, index, gateway.url)
                ]
            finally:
                gateway.stop()


def _index(path: Path, client: Client) -> Index:
    index = Index.create(path, client.model.fingerprint, client.model.embedding_dim)
    vectors = np.random.default_rng(0).standard_normal((ENTRIES, client.model.embedding_dim))
    index.add(vectors, [str(number) for number in range(ENTRIES)])
    return index


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
