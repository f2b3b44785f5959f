"""What a detector costs a request: the same model with and without it on one server, in turn.

python benchmarks/served_detector.py ARTIFACT --result benchmarks/served_detector_2cores_202611.md

The artifact is served twice, under two names, once with a detector that is fit here on made-up known vectors. Both
image models get the same requests, alternately; first by one client, then by eight, each with a lone picture.
"""

from __future__ import annotations

import argparse
import io
import platform
import shutil
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from export.carried_detector import GivenDetector, describe_detector, write_detector
from protoclip import Client, fit_detector
from protoclip.contract.manifest import load_manifest
from serving.triton.launcher import TritonServer
from serving.triton.repository import write_repository

PLAIN, JUDGED = "plain", "judged"
WARM_UP = 30


def picture(seed: int) -> bytes:
    """A JPEG of 500 × 375 fields of colour."""
    fields = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(fields).resize((500, 375), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def two_artifacts(artifact: Path, folder: Path, kind: str, num_known: int) -> tuple[Path, Path]:
    """Copies under other names, the second with a detector on `num_known` vectors around those of the artifact."""
    plain, judged = (shutil.copytree(artifact, folder / name) for name in (PLAIN, JUDGED))
    for place in (plain, judged):
        load_manifest(place).model_copy(update={"name": place.name, "detector": None}).save(place)
    with Client(str(judged)) as client:
        model, seen = client.model, client.embed_images([picture(seed) for seed in range(64)])
    draw = np.random.default_rng(0)
    rows = draw.integers(0, len(seen), num_known)
    known = seen[rows] + 0.3 * seen.std() * draw.standard_normal((num_known, seen.shape[1]))
    labels = [f"kind {row}" for row in rows]
    detector = fit_detector(known, labels, kind=kind, fingerprint=model.fingerprint, model=model.prefix)
    file = folder / "given.detector"
    detector.save(file)
    given = GivenDetector(file, detector)
    shutil.rmtree(judged / "detector", ignore_errors=True)
    write_detector(given, judged)
    manifest = load_manifest(judged)
    manifest.model_copy(update={"detector": describe_detector(given, judged, [])}).save(judged)
    return plain, judged


def in_turn(url: str, requests: int, clients: int) -> NDArray[np.float64]:
    """Milliseconds `[clients · requests, 2]`, of the model without and with a detector.

    Every client asks both, one after the other; which comes first alternates.
    """
    times = np.zeros((clients, requests, 2))
    ready = threading.Barrier(clients)

    def ask(number: int) -> None:
        with Client(url, model=PLAIN) as plain, Client(url, model=JUDGED) as judged:
            items = [picture(1000 + 20 * number + seed) for seed in range(20)]
            asks = (plain.embed_images, judged.detect)
            for ask_one in asks:
                for item in items[:WARM_UP]:
                    ask_one(item)
            ready.wait()
            for place in range(requests):
                for arm in (0, 1) if place % 2 else (1, 0):
                    start = time.perf_counter()
                    asks[arm](items[place % len(items)])
                    times[number, place, arm] = (time.perf_counter() - start) * 1e3

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times.reshape(-1, 2)


def row(name: str, times: NDArray[np.float64]) -> str:
    """Medians, their ratio with an interval over resampled requests, and the 99th percentiles."""
    plain, judged = np.median(times, axis=0)
    draw = np.random.default_rng(0)
    picks = draw.integers(0, len(times), (1000, len(times)))
    ratios = np.median(times[picks, 1], axis=1) / np.median(times[picks, 0], axis=1)
    low, high = np.quantile(ratios, (0.025, 0.975))
    slow = np.percentile(times, 99, axis=0)
    return (
        f"| {name} | {plain:.2f} | {judged:.2f} | {judged / plain:.3f} ({low:.3f} to {high:.3f}) "
        f"| {slow[0]:.2f} | {slow[1]:.2f} |"
    )


def main() -> None:
    """Writes a table in milliseconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--kind", default="neighbours")
    parser.add_argument("--known", type=int, default=10_000, help="vectors that the detector is fit on")
    parser.add_argument(
        "--requests", type=int, default=600, help="of one client to each model; of eight a quarter"
    )
    parser.add_argument("--result", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for artifact in two_artifacts(arguments.artifact, folder, arguments.kind, arguments.known):
            write_repository(artifact, folder / "repository")
        manifest = load_manifest(arguments.artifact)
        with TritonServer(folder / "repository") as server:
            rows = [
                row(f"{name}, {protocol}", in_turn(url, requests, clients))
                for protocol, url in (("HTTP", server.http_url), ("gRPC", server.grpc_url))
                for name, clients, requests in (
                    ("one client", 1, arguments.requests),
                    ("eight clients", 8, max(arguments.requests // 4, 2)),
                )
            ]
    text = "\n".join(
        [
            "# What a served detector costs a request",
            "",
            f"{manifest.source}, engine {manifest.default_engine}, D = {manifest.embedding_dim}; the detector of "
            f"kind {arguments.kind} on {arguments.known} vectors. Lone pictures, to the model without and with a "
            f"detector in turn; milliseconds. Python {platform.python_version()}, {platform.machine()}. By "
            f"`python benchmarks/served_detector.py {arguments.artifact} --kind {arguments.kind} --known "
            f"{arguments.known} --requests {arguments.requests}`.",
            "",
            "| | p50 without | p50 with | ratio (95 %) | p99 without | p99 with |",
            "|---|---:|---:|---:|---:|---:|",
            *rows,
            "",
        ]
    )
    print(text)
    if arguments.result:
        arguments.result.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
