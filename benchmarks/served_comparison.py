"""Bytes of a picture → embedding: ours beside the same engine in this process, plain services, and infinity.

    export PYTHONPATH=.cache/plain_service
    python benchmarks/served_comparison.py artifacts/emoji --torch local-dir:runs/emoji --added-ms 2

All run at once, and every round asks each in turn, with one client and with eight. Weights may be random.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from comparison_page import (
    BEST,
    FEW,
    GRPC,
    HERE,
    HTTP,
    INFINITY,
    MANY,
    PLAIN,
    RAW,
    TORCH,
    Measured,
    Profile,
    Results,
    report,
)
from other_services import Arm, asks_http, asks_infinity, infinity, plain_service
from plain_service import Embed, Halves, Vector, load_onnxruntime
from served_process import Served, make_pictures, serving

from protoclip import Client
from protoclip.client.connection import connect
from protoclip.client.discovery import complete_prefixes
from protoclip.client.infer_message import split_outputs
from protoclip.client.statistics import HasStatistics
from protoclip.contract.files import write_text
from protoclip.contract.manifest import load_manifest
from protoclip.load_test.served import served_times
from serving.triton.repository import write_repository

PICTURES = 16
PROFILED = 200


@contextmanager
def client_of(url: str) -> Iterator[Embed]:
    """Ours, as users have it."""
    with Client(url, timeout_s=60) as client:
        yield client.embed_images


@contextmanager
def here(halves: Halves) -> Iterator[Embed]:
    """Nothing to connect to."""
    yield halves.embed


def serve(artifact: Path, engine: str | None, folder: Path, stack: ExitStack) -> Served:
    """`protoclip serve` on the artifact, with the settings of a new repository."""
    repository = folder / (engine or "default")
    write_repository(artifact, repository, engine=engine)
    return stack.enter_context(serving(repository))


def start(given: argparse.Namespace, folder: Path, stack: ExitStack) -> tuple[list[Arm], Halves, Served]:
    """Everything that is compared, running."""
    ours = serve(given.artifact, given.engine, folder, stack)
    halves = load_onnxruntime(given.artifact, given.engine)
    port = urlsplit(ours.http_url).port or 0
    path = f"/v2/models/{ours.models['image']}/infer"

    def bound(url: str) -> Callable[[], AbstractContextManager[Embed]]:
        return lambda: client_of(url)

    arms = [
        Arm(HERE, lambda: here(halves)),
        Arm(GRPC, bound(ours.grpc_url)),
        Arm(HTTP, bound(ours.http_url)),
        Arm(RAW, asks_http(port, path, {"Inference-Header-Content-Length": "0"}, from_triton)),
    ]
    engine = [f"--engine={given.engine}"] if given.engine else []
    plain = stack.enter_context(plain_service("onnxruntime", str(given.artifact), *engine))
    arms.append(Arm(PLAIN, asks_http(plain, "/embed", {}, as_vector)))
    if given.best:
        best = serve(given.artifact, given.best, folder, stack)
        arms.append(Arm(BEST, bound(best.grpc_url)))
    if given.torch:
        torch_port = stack.enter_context(plain_service("open_clip", given.torch))
        arms.append(Arm(TORCH, asks_http(torch_port, "/embed", {}, as_vector)))
    if given.infinity:
        other = stack.enter_context(infinity(given.infinity, given.transformers))
        arms.append(Arm(INFINITY, asks_infinity(other)))
    return arms, halves, ours


def from_triton(body: bytes) -> Vector:
    """`[D]`, of an answer in Triton's format: a JSON object, and tensors as bytes after it."""
    header, size = json.JSONDecoder().raw_decode(body.decode("latin-1"))
    return as_vector(split_outputs(header, body[size:])["embedding"].data)


def as_vector(body: bytes) -> Vector:
    """`[D]`."""
    return np.frombuffer(body, np.float32)


def ask(arm: Arm, clients: int, seconds: float, pictures: list[bytes]) -> Measured:
    """So many clients, each with a connection of its own, as fast as answers come."""
    ready = threading.Barrier(clients)

    def work(seed: int) -> tuple[list[float], float, float]:
        waits = []
        draw = random.Random(seed)
        with arm.connect() as embed:
            embed(pictures[0])
            ready.wait()
            began = time.perf_counter()
            while (sent := time.perf_counter()) < began + seconds:
                embed(draw.choice(pictures))
                waits.append(1e3 * (time.perf_counter() - sent))
            return waits, began, time.perf_counter()

    with ThreadPoolExecutor(clients) as pool:
        found = list(pool.map(work, range(clients)))
    waits = [wait for each, _, _ in found for wait in each]
    took_s = max(end for _, _, end in found) - min(began for _, began, _ in found)
    return Measured(waits, [len(waits) / took_s])


def compare(arms: list[Arm], rounds: int, seconds: float, pictures: list[bytes]) -> Results:
    """All rounds; each begins with another arm."""
    results: dict[int, dict[str, Measured]] = {
        clients: {arm.name: Measured() for arm in arms} for clients in (FEW, MANY)
    }
    for turn in range(rounds):
        first = turn % len(arms)
        for clients in (FEW, MANY):
            for arm in arms[first:] + arms[:first]:
                found = ask(arm, clients, seconds, pictures)
                results[clients][arm.name].waits_ms += found.waits_ms
                results[clients][arm.name].rates += found.rates
    return results


def engines_of(given: argparse.Namespace) -> str:
    """The sentence of the page."""
    manifest = load_manifest(given.artifact)
    engine = given.engine or manifest.default_engine
    best = f" Best engine: {given.best}." if given.best else ""
    return f"Engine of ours, of {PLAIN} and {HERE}: {engine}, by ONNX Runtime.{best}"


def differences(arms: list[Arm], halves: Halves, pictures: list[bytes]) -> dict[str, float]:
    """The largest difference of a component from this process's answer, by arm."""
    right = np.stack([halves.embed(picture) for picture in pictures])
    found = {}
    for arm in arms:
        with arm.connect() as embed:
            found[arm.name] = float(np.abs(np.stack([embed(picture) for picture in pictures]) - right).max())
    return found


def profile(served: Served, halves: Halves, pictures: list[bytes]) -> Profile:
    """The same pictures in turn through the server and, in halves, in this process."""
    transport = connect(served.grpc_url)
    assert isinstance(transport, HasStatistics)
    took: dict[str, list[float]] = defaultdict(list)
    with client_of(served.grpc_url) as embed:
        embed(pictures[0])
        before = transport.model_statistics(10)
        for number in range(PROFILED):
            picture = pictures[number % len(pictures)]
            times = [time.perf_counter()]
            embed(picture)
            times.append(time.perf_counter())
            pixels = halves.pixels(picture)
            times.append(time.perf_counter())
            halves.encode(pixels)
            times.append(time.perf_counter())
            for what, took_s in zip(("whole", "pixels", "encode"), np.diff(times), strict=True):
                took[what].append(1e3 * float(took_s))
    prefix = complete_prefixes(transport.ready_models(10))[0]
    times_served = served_times(before, transport.model_statistics(10), prefix)
    transport.close()
    if times_served is None:
        raise SystemExit("the server was started again meanwhile")
    means = {what: float(np.mean(values)) for what, values in took.items()}
    return Profile(means["whole"], means["pixels"], means["encode"], times_served)


def main() -> None:
    """Measures and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--engine", help="of ours, of the plain service and in this process; default: the served")
    parser.add_argument("--best", help="a faster engine of the artifact, against torch")
    parser.add_argument("--torch", help="the same model as open_clip takes it")
    parser.add_argument("--infinity", type=Path, help="infinity_emb's program, in an environment of its own")
    parser.add_argument("--transformers", type=Path, help="the same model by `protoclip convert --to hf`")
    parser.add_argument("--added-ms", type=float, help="wanted: p50 of one client, above that in this process")
    parser.add_argument("--at-most", type=float, default=1.05, help="wanted instead: p50 by that in this process")
    parser.add_argument("--side", type=int, default=256, help="pixels of a picture's side")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each arm, number of clients and round")
    parser.add_argument("--result", type=Path)
    given = parser.parse_args()
    pictures = make_pictures(PICTURES, given.side)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        arms, halves, ours = start(given, folder, stack)
        differ = differences(arms, halves, pictures)
        measured = compare(arms, given.rounds, given.seconds, pictures)
        spent = profile(ours, halves, pictures)
    text = report(given, measured, differ, spent, engines_of(given))
    print(text)
    if given.result:
        write_text(given.result, text)


if __name__ == "__main__":
    main()
