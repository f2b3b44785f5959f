"""What clients wait for at a server whose models have one instance or two, and without queues of our settings.

    python benchmarks/batcher_stalls.py artifacts/emoji --result benchmarks/batcher_stalls_2cores_202611.md

Calls of 24 items, which are three requests at once, one call after the other; and streams. Needs the embedded
server.
"""

from __future__ import annotations

import argparse
import os
import re
import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from served_process import make_pictures, serving

from protoclip import Client
from protoclip.contract.files import write_text
from serving.triton.repository import write_repository

ITEMS, CALLS, STREAMED = 24, 12, 600
QUEUE = (
    r"\n  priority_levels: \d+|\n  default_priority_level: \d+"
    r"|\n    default_timeout_microseconds: \d+|\n    max_queue_size: \d+"
)
ONE = "one instance"
WAYS = (ONE, "one, no settings of queues", "two instances")


def write(artifact: Path, folder: Path, way: str) -> None:
    """The artifact's models, changed as `way` says."""
    write_repository(artifact, folder, encoder_instances=2 if way == WAYS[2] else 1)
    for file in folder.glob("*/config.pbtxt"):
        text = file.read_text(encoding="utf-8")
        if way != WAYS[2]:
            text = re.sub(r"\n  count: \d+", "\n  count: 1", text)
        file.write_text(re.sub(QUEUE, "", text) if way == WAYS[1] else text, encoding="utf-8")


def measure(client: Client, pictures: list[bytes]) -> dict[str, list[float]]:
    """Milliseconds of calls, and items a second of streams, by what is asked."""
    found: dict[str, list[float]] = defaultdict(list)
    texts = [f"a photo of {number} red shoes" for number in range(ITEMS)]
    for what, embed, items in (("texts", client.embed_texts, texts), ("pictures", client.embed_images, pictures)):
        for _ in range(CALLS):
            began = time.perf_counter()
            embed(items)  # type: ignore[operator]
            found[f"{ITEMS} {what}, ms: median, most"].append(1e3 * (time.perf_counter() - began))
    for what, stream, items in (
        ("texts", client.stream_texts, texts),
        ("pictures", client.stream_images, pictures),
    ):
        began = time.perf_counter()
        for _ in stream(items * (STREAMED // ITEMS)):  # type: ignore[operator]
            pass
        found[f"a stream of {what}, items/s"].append(STREAMED / (time.perf_counter() - began))
    return found


def main() -> None:
    """All ways run at once; every round asks each of them in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--result", type=Path)
    given = parser.parse_args()
    pictures = make_pictures(ITEMS, 256)
    results: dict[str, dict[str, list[float]]] = {way: defaultdict(list) for way in WAYS}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        clients = {}
        for number, way in enumerate(WAYS):
            write(given.artifact, folder / str(number), way)
            served = stack.enter_context(serving(folder / str(number)))
            clients[way] = stack.enter_context(Client(served.grpc_url, timeout_s=120))
        for _ in range(given.rounds):
            for way, client in clients.items():
                for what, values in measure(client, pictures).items():
                    results[way][what] += values
    lines = [
        "# One instance of a model, and two",
        "",
        f"`python benchmarks/batcher_stalls.py`, {given.rounds} rounds in turns, {os.cpu_count()} cores; load "
        f"of the machine at the end: {os.getloadavg()[0]:.1f}.",
        "",
        "| | " + " | ".join(WAYS) + " |",
        "|---" * (len(WAYS) + 1) + "|",
    ]
    for what in results[ONE]:
        cells = [
            f"{np.median(values):.0f}, {max(values):.0f}" if "ms" in what else f"{np.median(values):.0f}"
            for values in (results[way][what] for way in WAYS)
        ]
        lines.append(f"| {what} | {' | '.join(cells)} |")
    text = "\n".join(lines) + "\n"
    print(text)
    if given.result:
        write_text(given.result, text)


if __name__ == "__main__":
    main()
