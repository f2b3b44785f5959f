"""An index of many entries: building, opening, adding one, exact search, conditions, memory; in a process each.

    make index-at-size

The vectors are made with the gap between the modalities that a contrastive model has: pictures around one
direction, texts around another. Times of searches are medians over queries; faiss's exact search over the same
vectors in memory stands beside them, in one process and in turns.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protoclip.contract.files import write_text
from protoclip.search import Index

FINGERPRINT = "0123456789abcdef"
CHUNK = 50_000
REPEATS = 20
SHARES = (0.5, 0.05, 0.005)


def vectors(count: int, dim: int, *, kind: str, start: int = 0) -> NDArray[np.float32]:
    """`[count, dim]` of unit norm: "image" for entries, "text" for queries of the other modality."""
    rng = np.random.default_rng([start, kind == "text"])
    centre = np.random.default_rng([1, kind == "text"]).standard_normal(dim)
    themes = np.random.default_rng(2).standard_normal((256, dim))
    made = themes[rng.integers(0, 256, count)] + rng.standard_normal((count, dim)) + 1.5 * centre
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def resident_mb() -> dict[str, float]:
    """Memory of this process, apart: of its own, and pages of files that the system may take back."""
    fields = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return {name: int(fields[name].split()[0]) / 1024 for name in ("RssAnon", "RssFile")}


def median_ms(call: Callable[[int], object], repeats: int = REPEATS) -> float:
    """The median time of `call(0)`, `call(1)` …, in milliseconds."""
    taken = []
    for number in range(repeats):
        began = time.perf_counter()
        call(number)
        taken.append(time.perf_counter() - began)
    return 1000 * statistics.median(taken)


def build(path: Path, count: int, dim: int) -> dict[str, Any]:
    """Adds `count` entries, in calls of 50,000."""
    began = time.perf_counter()
    with Index.create(path, FINGERPRINT, dim) as index:
        for start in range(0, count, CHUNK):
            number = min(CHUNK, count - start)
            own = [
                {"price": row % 1000, "stock": row % 3 == 0, "product": row // 4}
                for row in range(start, start + number)
            ]
            made = vectors(number, dim, kind="image", start=start)
            index.add(made, [f"picture {row}" for row in range(start, start + number)], own)
        stats = index.stats()
    return {"s": time.perf_counter() - began, "bytes": stats.bytes, "segments": stats.segments}


def opening(path: Path) -> dict[str, Any]:
    """Opens it, and counts: what every command does first."""
    before = resident_mb()
    began = time.perf_counter()
    index = Index.open(path)
    count = len(index)
    taken = time.perf_counter() - began
    return {"ms": 1000 * taken, "entries": count, "before_mb": before, "after_mb": resident_mb()}


def adding(path: Path, dim: int) -> dict[str, Any]:
    """One entry a call, each on the disk when the call returns."""
    made = vectors(100, dim, kind="image", start=7)
    with Index.open(path) as index:
        index.remove([f"new {row}" for row in range(100)])
        one = median_ms(lambda row: index.add(made[row], [f"new {row}"], [{"price": row}]), 100)
        replaced = median_ms(lambda row: index.upsert(made[row], [f"new {row}"], [{"price": row}]), 100)
        removed = median_ms(lambda row: index.remove(f"new {row}"), 100)
    return {"add_ms": one, "upsert_ms": replaced, "remove_ms": removed}


def searching(path: Path, dim: int) -> dict[str, Any]:
    """The first search, later ones by picture and by text, 64 at once, and with conditions."""
    pictures, texts = (vectors(64, dim, kind=kind, start=99) for kind in ("image", "text"))
    with Index.open(path) as index:
        first = median_ms(lambda _: index.search(pictures[0]), 1)
        found = {
            "first_ms": first,
            "picture_ms": median_ms(lambda row: index.search(pictures[row])),
            "text_ms": median_ms(lambda row: index.search(texts[row])),
            "batch_of_64_ms": median_ms(lambda _: index.search(texts), 3),
            "group_ms": median_ms(lambda row: index.search(texts[row], group_by="product"), 5),
        }
        for share in SHARES:
            where = {"price": {"lt": int(1000 * share)}}
            found[f"where_{share:g}_ms"] = median_ms(
                lambda row, where=where: index.search(texts[row], where=where), 5
            )
    return found | {"mb": resident_mb()}


def beside_faiss(path: Path, dim: int) -> dict[str, Any]:
    """Exact search by faiss over the same vectors in memory, in turns with ours."""
    import faiss

    texts = vectors(64, dim, kind="text", start=99)
    with Index.open(path) as index:
        flat = faiss.IndexFlatIP(dim)
        for part in _parts(index):
            flat.add(part)
        index.search(texts[0])
        ours, theirs = [], []
        for number in range(REPEATS):
            ours.append(median_ms(lambda _, row=number: index.search(texts[row]), 1))
            theirs.append(median_ms(lambda _, row=number: flat.search(texts[row : row + 1], 10), 1))
        hits = index.search(texts, 10)
        scores, _ = flat.search(texts, 10)
        worst = max(
            abs(hit.score - score)
            for own, row in zip(hits, scores, strict=True)
            for hit, score in zip(own, row, strict=True)
        )
    ms = {"ours_ms": statistics.median(ours), "faiss_ms": statistics.median(theirs)}
    return ms | {"ours_by_faiss": ms["ours_ms"] / ms["faiss_ms"], "largest_difference": float(worst)}


def _parts(index: Index) -> Iterator[NDArray[np.float32]]:
    rows = []
    for entry in index.iterate():
        rows.append(entry.vector)
        if len(rows) == CHUNK:
            yield np.stack(rows)
            rows = []
    if rows:
        yield np.stack(rows)


STEPS: dict[str, Callable[[Path, int, int], dict[str, Any]]] = {
    "build": lambda path, count, dim: build(path, count, dim),
    "open": lambda path, _, dim: opening(path),
    "add one": lambda path, _, dim: adding(path, dim),
    "search": lambda path, _, dim: searching(path, dim),
    "beside faiss": lambda path, _, dim: beside_faiss(path, dim),
}


def page(count: int, dim: int, found: dict[str, dict[str, Any]]) -> str:
    """The result."""
    lines = [
        "# An index at size",
        f"`make index-at-size`: {count:,} × {dim}, {time.strftime('%B %Y')}, Python {platform.python_version()},",
        f"NumPy {np.__version__}, SQLite {sqlite3.sqlite_version}, {platform.system()}. A process each.",
        "",
        "| step | what | |",
        "|---|---|---|",
    ]
    for step, values in found.items():
        for name, value in values.items():
            shown = (
                ", ".join(f"{key} {part:,.0f}" for key, part in value.items())
                if isinstance(value, dict)
                else f"{value:,.4g}"
            )
            lines.append(f"| {step} | {name} | {shown} |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Parses, runs each step in a process, and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--out", type=Path, default=Path(".cache/index_at_size"))
    parser.add_argument("--step", choices=STEPS, help="one step, in this process")
    parser.add_argument("--result", type=Path)
    arguments = parser.parse_args()
    path = arguments.out / "x.index"
    if arguments.step is not None:
        print(json.dumps(STEPS[arguments.step](path, arguments.count, arguments.dim)))
        return
    shutil.rmtree(path, ignore_errors=True)
    found = {}
    for step in STEPS:
        options = ("--count", str(arguments.count), "--dim", str(arguments.dim), "--out", str(arguments.out))
        done = subprocess.run(
            [sys.executable, __file__, "--step", step, *options], stdout=subprocess.PIPE, text=True, check=True
        )
        found[step] = json.loads(done.stdout)
        print(step, found[step], flush=True)
    if arguments.result is not None:
        write_text(arguments.result, page(arguments.count, arguments.dim, found))


if __name__ == "__main__":
    main()
