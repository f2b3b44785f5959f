"""Times the way from a folder of own pictures to an answer: server, embedding, index, search.

    python benchmarks/own_pictures.py runs/demo/model_repository --result benchmarks/own_pictures_2cores_202611.md

The folder is made anew: the bundled corpus' pictures, scaled up to the size of photographs, each on a
background of its own, as JPEG and PNG. What is timed is what a user types: `protoclip serve`,
`protoclip index build`, `protoclip search`.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from protoclip.contract.files import write_text
from protoclip.data.table import load_pairs
from protoclip.demo.run import demo_config

QUERIES = ("a red heart", "a dog", "something to eat")
READY = re.compile(r"http://127\.0\.0\.1:(\d+)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repository", type=Path, help="what `protoclip demo` left in runs/demo/model_repository")
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--size", type=int, nargs=2, default=(1024, 768), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--result", type=Path, help="Markdown file to write")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        photos, index = Path(folder) / "photos", Path(folder) / "own.index"
        num_bytes = write_pictures(photos, arguments.pictures, tuple(arguments.size))
        rows = measure(arguments.repository, photos, index)
    width, height = arguments.size
    told = (
        f"{arguments.pictures:,} pictures of {width} × {height}, {num_bytes / 1e6:,.0f} MB, {os.cpu_count()} cores"
    )
    text = report(told, rows)
    print(text)
    if arguments.result is not None:
        write_text(arguments.result, text)


def write_pictures(folder: Path, count: int, size: tuple[int, int]) -> int:
    """Writes pictures, two thirds JPEG and one third PNG; returns their bytes."""
    folder.mkdir()
    pairs = load_pairs(demo_config().data)
    random = np.random.default_rng(0)
    for number, row in enumerate(random.permutation(len(pairs))[:count]):
        picture = Image.open(io.BytesIO(pairs.read_image(int(row)))).convert("RGBA")
        side = min(size)
        grain = random.integers(-6, 7, (size[1], size[0], 3)) + random.integers(200, 250, 3)
        page = Image.fromarray(grain.clip(0, 255).astype(np.uint8), "RGB")
        big = picture.resize((side, side), Image.Resampling.BICUBIC)
        page.paste(big, ((size[0] - side) // 2, (size[1] - side) // 2), big)
        if number % 3:
            page.save(folder / f"{number:05d}.jpg", quality=90)
        else:
            page.save(folder / f"{number:05d}.png", compress_level=1)
    return sum(file.stat().st_size for file in folder.iterdir())


def measure(repository: Path, photos: Path, index: Path) -> list[tuple[str, float, str]]:
    """Name, seconds and what was seen, for each command."""
    started = time.perf_counter()
    with server(repository) as url:
        rows = [("protoclip serve, until it answers", time.perf_counter() - started, "")]
        seconds, out = timed("index", "build", str(photos), str(index), "--url", url, "--json")
        facts = json.loads(out)
        rows.append(("protoclip index build", seconds, f"{facts['entries']:,} embedded and indexed"))
        for query in QUERIES:
            seconds, out = timed("search", str(index), "--text", query, "--url", url, "--json")
            rows.append((f'protoclip search --text "{query}"', seconds, f"{len(json.loads(out)['hits'])} found"))
    return rows


@contextmanager
def server(repository: Path) -> Iterator[str]:
    """Starts `protoclip serve` on free ports, and stops it by its own process id."""
    command = [sys.executable, "-m", "protoclip", "serve", str(repository), "--http-port", "0", "--grpc-port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if found := READY.search(line):
                yield found[0]
                return
        raise SystemExit("the server stopped before it answered")
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)


def timed(*arguments: str) -> tuple[float, str]:
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "protoclip", *arguments], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"protoclip {' '.join(arguments)}: exit code {done.returncode}")
    return time.perf_counter() - started, done.stdout


def report(told: str, rows: list[tuple[str, float, str]]) -> str:
    lines = [
        "# From a folder of own pictures to an answer",
        f"{told}.",
        "",
        "| command | s | seen |",
        "|---|---|---|",
    ]
    lines += [f"| {name} | {seconds:.1f} | {seen} |" for name, seconds, seen in rows]
    answer = sum(seconds for _, seconds, _ in rows[:3])
    lines += ["", f"From nothing running to the first answer: {answer:.0f} s."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
