"""The page of `served_comparison.py`: what was measured, what is wanted of it, and where a request's time goes."""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version

import numpy as np

from protoclip.load_test.served import ServedTimes

HERE = "in this process"
GRPC, HTTP, RAW = "ours, Client over gRPC", "ours, Client over HTTP", "ours, http.client"
BEST = "ours, best engine, Client over gRPC"
PLAIN, TORCH, INFINITY = "FastAPI, same session", "FastAPI, open_clip in torch fp32", "infinity, torch fp32"
FEW, MANY = 1, 8
"""Clients."""
BESIDE = "(beside)"
"""Nothing is wanted."""


@dataclass
class Measured:
    """Of one arm with one number of clients: all latencies, and each round's pictures a second."""

    waits_ms: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)

    def percentile(self, share: float) -> float:
        """Of the latencies, in milliseconds."""
        return float(np.percentile(self.waits_ms, share))


Results = Mapping[int, Mapping[str, Measured]]
"""By number of clients and arm; the rounds of all arms stand in the same order."""


@dataclass(frozen=True)
class Profile:
    """Where the time of one client's requests over gRPC goes: means in milliseconds."""

    whole_ms: float
    pixels_ms: float
    encode_ms: float
    served: list[ServedTimes]


def report(
    given: argparse.Namespace, results: Results, differ: Mapping[str, float], spent: Profile, engines: str
) -> str:
    """Markdown.

    Args:
        differ: largest difference of a component from the answer in this process, by arm.
        engines: their names, for the first paragraph.
    """
    parts = [_head(given, engines), _table(results, differ), _verdicts(given, results), _profile(spent)]
    return "\n\n".join(parts) + "\n"


def _head(given: argparse.Namespace, engines: str) -> str:
    versions = ", ".join(f"{name} {_version(name)}" for name in ("onnxruntime", "torch", "fastapi", "uvicorn"))
    options = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in vars(given).items() if value)
    return (
        f"# Served beside others: {given.artifact.name}\n\n"
        f"`python benchmarks/served_comparison.py`, {options}: JPEGs of {given.side} × {given.side} pixels, "
        f"{given.rounds} rounds of {given.seconds:g} s for each arm and number of clients, in turns, all services "
        f"running. {engines} {os.cpu_count()} cores, shared with the clients; {platform.machine()}, "
        f"Python {platform.python_version()}, {versions}. Load at the end: {os.getloadavg()[0]:.1f}."
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(none)"


def _table(results: Results, differ: Mapping[str, float]) -> str:
    lines = [
        "| arm | p50, p99 ms, one client | pictures/s | p50, p99 ms, eight clients | pictures/s | differs by |",
        "|---|---|---:|---|---:|---:|",
    ]
    for name in results[FEW]:
        cells = [name]
        for clients in (FEW, MANY):
            found = results[clients][name]
            cells.append(f"{found.percentile(50):.2f}, {found.percentile(99):.2f}")
            cells.append(f"{np.median(found.rates):.1f}")
        lines.append(f"| {' | '.join(cells)} | {differ[name]:.1e} |")
    lines += ["", "pictures/s: median of the rounds. differs by: a vector's component, from that in this process."]
    return "\n".join(lines)


def _verdicts(given: argparse.Namespace, results: Results) -> str:
    few, many = results[FEW], results[MANY]
    lines = ["| what | wanted | found | |", "|---|---|---|---|"]

    def add(what: str, wanted: str, found: str, reached: bool) -> None:
        word = "" if wanted == BESIDE else "reached" if reached else "**missed**"
        lines.append(f"| {what} | {wanted} | {found} | {word} |")

    for name in (GRPC, HTTP):
        here, served = few[HERE].percentile(50), few[name].percentile(50)
        if given.added_ms is not None:
            wanted, found = f"≤ + {given.added_ms:g} ms", f"+ {served - here:.2f} ms"
            add(f"one client, p50: {name}, to {HERE}", wanted, found, served - here <= given.added_ms)
        else:
            wanted, found = f"≤ {given.at_most:g} ×", f"{served / here:.3f} ×"
            add(f"one client, p50: {name}, to {HERE}", wanted, found, served / here <= given.at_most)
    best = BEST if BEST in many else GRPC
    pairs = [(name, PLAIN, 1.0) for name in (GRPC, HTTP, RAW)]
    pairs += [(best, other, least) for other, least in ((TORCH, 3.0), (INFINITY, 0.0)) if other in many]
    for name, other, least in pairs:
        ratio = float(np.median(np.divide(many[name].rates, many[other].rates)))
        wanted = f"≥ {least:g} ×" if least else BESIDE
        add(f"eight clients, pictures/s: {name}, to {other}", wanted, f"{ratio:.2f} ×", ratio >= least)
        by = many[name].percentile(99) / many[other].percentile(99)
        add(f"eight clients, p99: {name}, to {other}", "≤ 1 ×" if least else BESIDE, f"{by:.2f} ×", by <= 1)
    return "\n".join([*lines, "", "Ratios of pictures/s: the median of each round's."])


def _profile(spent: Profile) -> str:
    parts = {served.name.rsplit("_", 1)[1]: served for served in spent.served}
    ensemble, preprocess, encoder = parts["image"], parts["preprocess"], parts["encoder"]
    total = ensemble.total_ms or 0.0
    lines = [
        "## Where the time of a request goes",
        "",
        f"Means of {ensemble.requests} requests by one client over gRPC, from Triton's own statistics, and of the "
        "same pictures in this process, in turn with them.",
        "",
        "| | ms | in this process, ms | between processes, ms |",
        "|---|---:|---:|---:|",
    ]
    hops = []
    for what, served, alone in (
        ("pixels", preprocess, spent.pixels_ms),
        ("encoder", encoder, spent.encode_ms),
    ):
        compute = sum(value or 0.0 for value in (served.input_ms, served.infer_ms, served.output_ms))
        hops.append(compute - alone)
        lines.append(
            f"| {what}: Python worker and the way there | {compute:.2f} | {alone:.2f} | {hops[-1]:+.2f} |"
        )
    queues = (preprocess.queue_ms or 0.0) + (encoder.queue_ms or 0.0)
    rest = total - sum(
        value or 0.0
        for served in (preprocess, encoder)
        for value in (served.queue_ms, served.input_ms, served.infer_ms, served.output_ms)
    )
    outside = spent.whole_ms - total
    alone = spent.pixels_ms + spent.encode_ms
    lines += [
        f"| both queues | {queues:.2f} | | {queues:+.2f} |",
        f"| the rest of Triton's ensemble | {rest:.2f} | | {rest:+.2f} |",
        f"| client, gRPC, guard | {outside:.2f} | | {outside:+.2f} |",
        f"| the whole | {spent.whole_ms:.2f} | {alone:.2f} | {spent.whole_ms - alone:+.2f} |",
        "",
        f"The vendor's server runs ONNX Runtime or TensorRT inside itself: it would save the encoder's "
        f"{max(0.0, hops[1]):.2f} ms between processes at most. It, too, decodes pictures in a Python worker.",
    ]
    return "\n".join(lines)
