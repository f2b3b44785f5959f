"""What it costs and gains an encoder's threads to spin: alone on idle cores, and beside another encoder's.

    python benchmarks/spinning.py artifacts/mine/onnx_fp32/image.onnx artifacts/mine/onnx_int8/image.onnx

Two processes with a session each, as the server has two instances of an encoder. Every round, each setting runs in
one of them alone, with pauses as between requests, and then in both at once.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import statistics
import time
from collections import defaultdict
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import onnxruntime

from protoclip.contract.files import write_text

SETTINGS: dict[str, dict[str, str]] = {
    "never": {"session.intra_op.allow_spinning": "0"},
    "20 µs, within a run": {"session.intra_op.spin_duration_us": "20", "session.force_spinning_stop": "1"},
    "100 µs, within a run": {"session.intra_op.spin_duration_us": "100", "session.force_spinning_stop": "1"},
    "without limit, within a run": {"session.force_spinning_stop": "1"},
    "ONNX Runtime's default": {},
}
RUNS = 6
PAUSE_S = 0.003
ERRORS_ONLY = 3


def open_all(graph: Path) -> dict[str, onnxruntime.InferenceSession]:
    """A session for each setting."""
    sessions = {}
    for name, entries in SETTINGS.items():
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = len(os.sched_getaffinity(0))
        options.log_severity_level = ERRORS_ONLY
        for key, value in entries.items():
            options.add_session_config_entry(key, value)
        sessions[name] = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    return sessions


def work(graph: Path, orders: Connection) -> None:
    """Runs one row RUNS times for each order, until that is None; sends ms, and those of the processor."""
    sessions = open_all(graph)
    first = next(iter(sessions.values())).get_inputs()[0]
    pixels = np.random.default_rng(0).integers(0, 256, (1, *first.shape[1:]), dtype=np.uint8)
    for session in sessions.values():
        session.run(None, {first.name: pixels})
    orders.send(None)
    while (order := orders.recv()) is not None:
        name, pause_s = order
        took_ms, began_s = [], time.process_time()
        for _ in range(RUNS):
            start_s = time.perf_counter()
            sessions[name].run(None, {first.name: pixels})
            took_ms.append(1e3 * (time.perf_counter() - start_s))
            time.sleep(pause_s)
        orders.send((took_ms, 1e3 * (time.process_time() - began_s) / RUNS))


def measure(graph: Path, rounds: int) -> list[str]:
    """Rows of the table."""
    workers = []
    for _ in range(2):
        ours, theirs = multiprocessing.Pipe()
        multiprocessing.Process(target=work, args=(graph, theirs), daemon=True).start()
        workers.append(ours)
    for worker in workers:
        worker.recv()
    alone, rate, spent = defaultdict(list), defaultdict(list), defaultdict(list)
    for turn in range(rounds):
        for name in SETTINGS:
            workers[turn % 2].send((name, PAUSE_S))
            alone[name] += workers[turn % 2].recv()[0][1:]
        for name in SETTINGS:
            began_s = time.perf_counter()
            for worker in workers:
                worker.send((name, 0.0))
            spent[name] += [worker.recv()[1] for worker in workers]
            rate[name].append(2 * RUNS / (time.perf_counter() - began_s))
    for worker in workers:
        worker.send(None)
    label = f"{graph.parent.name}/{graph.name}"
    middle = statistics.median
    return [
        f"| {label} | {name} | {middle(alone[name]):.1f} | {middle(rate[name]):.1f} | {middle(spent[name]):.1f} |"
        for name in SETTINGS
    ]


def main() -> None:
    """Measures and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("graphs", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--result", type=Path)
    given = parser.parse_args()
    lines = [
        "# How long an encoder's threads look for work before they sleep",
        "",
        f"`python benchmarks/spinning.py`, {given.rounds} rounds of {RUNS} runs of one row, each setting in "
        f"turn; medians. {len(os.sched_getaffinity(0))} cores, {platform.machine()}, "
        f"onnxruntime {onnxruntime.__version__}.",
        "",
        "| graph | threads spin | alone, ms a run | two at once, runs/s | ms of processor a run |",
        "|---|---|---:|---:|---:|",
    ]
    for graph in given.graphs:
        lines += measure(graph, given.rounds)
    text = "\n".join(lines) + "\n"
    print(text)
    if given.result:
        write_text(given.result, text)


if __name__ == "__main__":
    main()
