"""How busy one client that embeds 10,000 JPEGs keeps the server, by the server's own times and by processor time.

    python benchmarks/server_busy.py ARTIFACT --result benchmarks/server_busy_2cores_202611.md

The client is `Client(url).stream_images(paths)` with its defaults, on the machine of the server; it reads the
files meanwhile. Beside it, in turn, one that has the files in memory and 16 requests at once. What the first
reaches of the second's rate is what of the server it keeps busy.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import tempfile
import time
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from protoclip.client import Client
from protoclip.contract.files import write_text
from serving.triton.launcher import LaunchedServer, TritonServer
from serving.triton.repository import write_repository

DISTINCT = 400
DEFAULT_REQUESTS, MANY_REQUESTS = 4, 16
DEFAULT, MOST = "by default, from files", f"{MANY_REQUESTS} requests at once, from memory"
WARM_UP = 200
ALLOWED = 0.95


@dataclass(frozen=True)
class Row:
    """One run: who asked, pictures a second, and how busy what was."""

    name: str
    rate: float
    model: str
    """The one that computed most of the time."""
    model_share: float
    """Of its instances' time."""
    server_share: float
    """Of the processor time that the client left over."""
    client_cores: float


def write_pictures(folder: Path, count: int, size: tuple[int, int]) -> list[Path]:
    """JPEGs of coarse noise; each file has many names, which costs no disk."""
    rng = np.random.default_rng(0)
    files = []
    for number in range(count):
        path = folder / f"{number:05d}.jpg"
        if number < DISTINCT:
            small = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
            buffer = io.BytesIO()
            small.resize(size, Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=85)
            path.write_bytes(buffer.getvalue())
        else:
            path.hardlink_to(files[number % DISTINCT])
        files.append(path)
    return files


def measure(server: LaunchedServer, name: str, items: Iterable[Any], concurrency: int) -> Row:
    """Embeds the items, and compares what server and processes did meanwhile."""
    with Client(server.grpc_url, timeout_s=None, concurrency=concurrency) as client:
        items = list(items)
        for _ in client.stream_images(items[:WARM_UP]):
            pass
        before, cpu = _computed_ns(server), _cpu_s()
        start = time.perf_counter()
        count = sum(len(part.vectors) - len(part.errors) for part in client.stream_images(items))
        wall_s = time.perf_counter() - start
        after, cpu_after = _computed_ns(server), _cpu_s()
    assert count == len(items), f"{len(items) - count} pictures were bad"
    shares = {
        model: (after[model] - before.get(model, 0)) / 1e9 / wall_s / instances
        for model, instances in _instances(server, after).items()
    }
    busiest = max(shares, key=lambda model: shares[model])
    own, others = (later - earlier for later, earlier in zip(cpu_after, cpu, strict=True))
    cores = len(os.sched_getaffinity(0))
    left = wall_s * cores - own
    return Row(name, count / wall_s, busiest, shares[busiest], others / left, own / wall_s)


def _computed_ns(server: LaunchedServer) -> dict[str, int]:
    """Nanoseconds in which instances of each model executed batches, since the server started."""
    parts = ("compute_input", "compute_infer", "compute_output")
    return {
        model["name"]: sum(
            int(batch[part].get("ns", 0)) for batch in model.get("batch_stats", ()) for part in parts
        )
        for model in _asked(server, "/v2/models/stats")["model_stats"]
    }


def _instances(server: LaunchedServer, models: Iterable[str]) -> dict[str, int]:
    """How many instances each model has; an ensemble has none."""
    found = {}
    for model in models:
        groups = _asked(server, f"/v2/models/{model}/config").get("instance_group", ())
        if count := sum(group.get("count", 1) for group in groups):
            found[model] = count
    return found


def _asked(server: LaunchedServer, path: str) -> Any:
    with urllib.request.urlopen(server.http_url + path, timeout=30) as answer:
        return json.load(answer)


def _cpu_s() -> tuple[float, float]:
    """Processor time of this process, and of all that it started: the server, its workers and the guard."""
    parents, times = {}, {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = file.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        pid = int(file.parent.name)
        parents[pid], times[pid] = int(fields[1]), int(fields[11]) + int(fields[12])
    below = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in below and pid not in below}:
        below |= more
    tick = os.sysconf("SC_CLK_TCK")
    own = times[os.getpid()] / tick
    return own, sum(times[pid] for pid in below) / tick - own


def page(rows: list[Row], told: str) -> str:
    """The result."""
    ours, most = ([row.rate for row in rows if row.name == name] for name in (DEFAULT, MOST))
    reached = float(np.median(ours) / np.median(most))
    return "\n".join(
        [
            "# How busy a client keeps the server",
            "",
            told,
            "",
            "| client | pictures/s | busiest model | its instances busy | server, of the cores that the client "
            "leaves | client, cores |",
            "|---|---:|---|---:|---:|---:|",
            *(
                f"| {row.name} | {row.rate:.0f} | {row.model} | {row.model_share:.0%} | {row.server_share:.0%} | "
                f"{row.client_cores:.2f} |"
                for row in rows
            ),
            "",
            f"The client reaches {reached:.1%} of what the server does with {MANY_REQUESTS} requests waiting: "
            f"{'at least' if reached >= ALLOWED else 'BELOW'} {ALLOWED:.0%}.",
            "",
        ]
    )


def main() -> None:
    """Measures and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifact", type=Path, help="folder that `protoclip export` wrote")
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--size", type=int, nargs=2, default=(500, 375), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument(
        "--requests", type=int, nargs="*", default=(), help="at once, of further clients from files"
    )
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--result", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        photos, repository = Path(folder) / "photos", Path(folder) / "repository"
        photos.mkdir()
        paths = write_pictures(photos, arguments.pictures, tuple(arguments.size))
        contents = [path.read_bytes() for path in paths[: max(1, arguments.pictures // 4)]]
        write_repository(arguments.artifact, repository)
        rows = []
        with TritonServer(repository) as server:
            for _ in range(arguments.turns):
                rows.append(measure(server, DEFAULT, paths, DEFAULT_REQUESTS))
                for number in arguments.requests:
                    rows.append(measure(server, f"{number} requests at once, from files", paths, number))
                rows.append(measure(server, MOST, contents, MANY_REQUESTS))
    width, height = arguments.size
    told = (
        f"`python benchmarks/server_busy.py {arguments.artifact.name}`: {time.strftime('%B %Y')}, Python "
        f"{platform.python_version()}, {len(os.sched_getaffinity(0))} cores, {arguments.pictures:,} JPEGs of "
        f"{width} × {height}, {arguments.turns} turns. Client and server share the machine."
    )
    found = page(rows, told)
    print(found)
    if arguments.result is not None:
        write_text(arguments.result, found)


if __name__ == "__main__":
    main()
