"""Sends odd requests to a gateway of its own on this machine; it must live and answer as before, without a 5xx.

    python benchmarks/fuzz_gateway.py ARTIFACT --count 10000 --seed 1 --result benchmarks/fuzz_gateway.md

A Triton serves the artifact, so that /v2 is there too, and an index of a few pictures is searched. Each request is
made from the seed and its number: `--only NUMBER` sends that one alone. Exit code 1 where a process ended, an
answer is a 5xx although the server was there all the time, the same questions get other answers afterwards, or
memory or open files have grown.
"""

from __future__ import annotations

import argparse
import http.client
import json
import platform
import random
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from hostile_gateway import make_request
from hostile_http import picture

from protoclip.cli.gateway_beside import GatewayBeside
from protoclip.client import Client
from protoclip.search import Index
from serving.gateway.settings import make_settings
from serving.triton.launcher import TritonServer
from serving.triton.repository import write_repository

CONNECTIONS = 8
"""Requests at once."""
ANSWER_S = 20.0
WARM_UP = 1000
"""Requests after which memory should stay: by then every route and thread has been used."""
GROWN_MB = 30.0
GROWN_FILES = 20
IDS = ["red.png", "sub/blue.png", "<b>&.png", "größe.png", "caf\udce9.png", "../out.png"]


@dataclass
class Outcome:
    """Answers by kind of request and status, and what went wrong."""

    answers: Counter[tuple[str, str]] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


def make_index(folder: Path, client: Client) -> tuple[Path, Path]:
    """An index and a folder with the pictures of some of its entries."""
    rng = random.Random(0)
    pictures = folder / "pictures"
    (pictures / "sub").mkdir(parents=True)
    vectors = client.embed_texts([f"text {number}" for number in range(len(IDS))])
    metadata = [{"price": number, "color": "red"} for number in range(len(IDS))]
    with Index.create(folder / "index", client.model.fingerprint, client.model.embedding_dim) as index:
        index.add(vectors, IDS, metadata)
    for name in IDS[:5]:
        (pictures / name).write_bytes(picture(rng))
    return folder / "index", pictures


def send(port: int, data: bytes, *, read: bool) -> str:
    """Status of the answer, or what came in its place."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=ANSWER_S) as connection:
            connection.sendall(data)
            if not read:
                return "left"
            answer = connection.recv(1 << 16)
            return answer[9:12].decode("ascii", "replace") if answer.startswith(b"HTTP/1.1 ") else "closed"
    except TimeoutError:
        return "no answer"
    except OSError:
        return "closed"


def questions(port: int) -> list[bytes]:
    """Answers that must be the same before and afterwards."""
    asked: list[tuple[str, str, dict[str, object] | None]] = [
        ("POST", "/search", {"text": "red shoes", "k": 6}),
        ("POST", "/search", {"like": "red.png", "k": 3}),
        ("GET", "/thumbnails/shop/sub%2Fblue.png", None),
        ("GET", "/indexes", None),
        ("GET", "/healthz", None),
    ]
    found = []
    for method, path, body in asked:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request(
            method, path, None if body is None else json.dumps(body), {"Content-Type": "application/json"}
        )
        answer = connection.getresponse()
        found.append(b"%d " % answer.status + answer.read())
        connection.close()
    return found


@dataclass(frozen=True)
class Resources:
    """Of the gateway's process."""

    pid: int
    memory_mb: float
    files: int


def resources(pid: int) -> Resources:
    """As /proc says."""
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
    return Resources(pid, int(line.split()[1]) / 1024, len(list(Path(f"/proc/{pid}/fd").iterdir())))


def fuzz(
    gateway: GatewayBeside, port: int, numbers: Sequence[int], seed: int, model: str, outcome: Outcome
) -> None:
    """Sends the requests of `numbers`, CONNECTIONS at once, until something goes wrong."""
    lock = threading.Lock()
    waiting: Iterator[int] = iter(numbers)

    def work(_: int) -> None:
        while True:
            with lock:
                number = next(waiting, None)
            if number is None or outcome.faults:
                return
            sent = make_request(random.Random(seed * 1_000_003 + number), IDS, model)
            answer = send(port, sent.data, read=sent.read)
            with lock:
                outcome.answers[sent.kind, answer] += 1
                if answer.startswith("5") or answer == "no answer":
                    outcome.faults.append(f"request {number} ({sent.kind}): {answer}")
                if gateway.keep() is not None:
                    outcome.faults.append(f"the gateway ended, about request {number}")

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(work, range(CONNECTIONS)))


def run(artifact: Path, numbers: range, seed: int) -> tuple[Outcome, str]:
    """The outcome with all that was different afterwards, and a line on memory."""
    outcome = Outcome()
    with tempfile.TemporaryDirectory() as folder, Client(str(artifact)) as client:
        index, pictures = make_index(Path(folder), client)
        write_repository(artifact, Path(folder) / "repository")
        with TritonServer(Path(folder) / "repository") as server:
            settings = make_settings(
                url=server.grpc_url,
                kserve_url=server.http_url,
                port=0,
                indexes={"shop": index},
                pictures={"shop": (pictures,)},
                log_json=True,
                # Requests that are not whole are not waited for long.
                head_s=1.0,
                body_s=1.0,
            )
            gateway = GatewayBeside(settings)
            try:
                gateway.wait_until_ready(60)
                port = int(gateway.url.rpartition(":")[2])
                before = questions(port)
                fuzz(gateway, port, numbers[:WARM_UP], seed, client.model.prefix, outcome)
                warm = resources(gateway.pid)
                fuzz(gateway, port, numbers[WARM_UP:], seed, client.model.prefix, outcome)
                time.sleep(1.0)
                after = resources(gateway.pid)
                if questions(port) != before:
                    outcome.faults.append("the same questions get other answers")
                _compare(warm, after, outcome)
            finally:
                gateway.stop()
    return outcome, f"{warm.memory_mb:.0f} MB after {WARM_UP:,} requests, {after.memory_mb:.0f} MB at the end"


def _compare(warm: Resources, after: Resources, outcome: Outcome) -> None:
    if warm.pid != after.pid:
        outcome.faults.append("the gateway was started again")
    if after.memory_mb > warm.memory_mb + GROWN_MB:
        outcome.faults.append(f"memory grew from {warm.memory_mb:.0f} to {after.memory_mb:.0f} MB")
    if after.files > warm.files + GROWN_FILES:
        outcome.faults.append(f"open files grew from {warm.files} to {after.files}")


def report(outcome: Outcome, seed: int, memory: str, duration_s: float) -> str:
    """Markdown."""
    rows = []
    for kind in sorted({kind for kind, _ in outcome.answers}):
        answers = Counter({answer: count for (each, answer), count in outcome.answers.items() if each == kind})
        told = ", ".join(f"{answer} {count:,}" for answer, count in answers.most_common())
        rows.append(f"| {kind} | {answers.total():,} | {told} |")
    verdict = (
        "; ".join(outcome.faults)
        or "the process lives, no answer was a 5xx, and the same questions get the same bytes"
    )
    lines = [
        "# Odd requests to a gateway",
        "",
        f"{outcome.answers.total():,} requests with seed {seed}, {CONNECTIONS} at once, in {duration_s:.0f} s. "
        f"Python {platform.python_version()}, embedded server. By `benchmarks/fuzz_gateway.py`.",
        "",
        f"Afterwards: {verdict}. Memory of the gateway: {memory}.",
        "",
        "| kind | requests | answers |",
        "|---|---:|---|",
        *rows,
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def main() -> int:
    """Runs it; 1 where something went wrong."""
    parser = argparse.ArgumentParser(description="Sends odd requests to a gateway of its own.")
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="number of a single request")
    parser.add_argument("--result", type=Path)
    arguments = parser.parse_args()
    only = arguments.only
    numbers = range(arguments.count) if only is None else range(only, only + 1)
    began = time.monotonic()
    outcome, memory = run(arguments.artifact, numbers, arguments.seed)
    text = report(outcome, arguments.seed, memory, time.monotonic() - began)
    print(text)
    if arguments.result:
        fresh = arguments.result.with_suffix(".new")
        fresh.write_text(text, encoding="utf-8")
        fresh.rename(arguments.result)
    return 1 if outcome.faults else 0


if __name__ == "__main__":
    sys.exit(main())
