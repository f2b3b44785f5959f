"""Approximate search of a large index: recall on queries that tuning never saw, and rates beside exact search.

    make approximate-index

Vectors of two kinds, both with the gap between the modalities that a contrastive model has: "easy", around 256
themes, and "hard", without themes, of a spectrum that falls, where a text has as much of its own as of a picture's
content. Each step runs in a process of its own. Rates of ours and of faiss are taken in turns, in one process: a
single query at a time, and 64 at once.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from other_indexes import hnswlib_facts, milvus_lite_facts

from protoclip.client import Hit
from protoclip.contract.files import write_text
from protoclip.search import Index

FINGERPRINT = "0123456789abcdef"
CHUNK = 50_000
TUNED_WITH, UNSEEN = 1500, 256
SINGLE, BATCH = 30, 64
SHARES = (0.5, 0.05, 0.005)
LATENT = 128
# Beyond it, a graph takes hours to build on two cores.
MOST_BESIDE = 100_000
Vectors = NDArray[np.float32]


def vectors(count: int, dim: int, data: str, kind: str, start: int) -> Vectors:
    """`[count, dim]` of unit norm, of "easy" or "hard" data: an "image" for entries, a "text" for queries."""
    rng = np.random.default_rng([start, kind == "text"])
    centre = 1.5 * np.random.default_rng([1, kind == "text"]).standard_normal(dim)
    if data == "easy":
        themes = np.random.default_rng(2).standard_normal((256, dim))
        made = themes[rng.integers(0, 256, count)] + rng.standard_normal((count, dim))
    else:
        basis = np.random.default_rng(3).standard_normal((LATENT, dim))
        scale = (1 + np.arange(LATENT)) ** -0.5
        scale /= np.linalg.norm(scale)
        content = rng.standard_normal((count, LATENT)) * scale
        if kind == "text":
            content = 0.8 * content + 0.6 * rng.standard_normal((count, LATENT)) * scale
        made = content @ basis + 0.15 * rng.standard_normal((count, dim))
    made += centre
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def entries(count: int, dim: int, data: str) -> Iterator[Vectors]:
    """The vectors of all entries, some at a time."""
    for start in range(0, count, CHUNK):
        yield vectors(min(CHUNK, count - start), dim, data, "image", start)


def resident_mb() -> dict[str, float]:
    """Memory of this process, apart: of its own, and pages of files that the system may take back."""
    fields = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return {name: int(fields[name].split()[0]) / 1024 for name in ("RssAnon", "RssFile")}


def took_s(call: Callable[..., object], *arguments: object, **options: object) -> float:
    """The time of one call."""
    began = time.perf_counter()
    call(*arguments, **options)
    return time.perf_counter() - began


def recall(found: Sequence[Sequence[Hit]], true: Sequence[Sequence[Hit]]) -> float:
    """The share of the true hits that was found, on average."""
    pairs = zip(found, true, strict=True)
    return statistics.mean(
        len({hit.id for hit in own} & {hit.id for hit in row}) / max(1, len(row)) for own, row in pairs
    )


def fill(path: Path, count: int, dim: int, data: str) -> dict[str, Any]:
    """Adds `count` entries with metadata, in calls of 50,000."""
    taken = 0.0
    with Index.create(path, FINGERPRINT, dim, replace=True) as index:
        for start in range(0, count, CHUNK):
            number = min(CHUNK, count - start)
            made = vectors(number, dim, data, "image", start)
            own = [{"price": row % 1000, "product": row // 4} for row in range(start, start + number)]
            names = [f"picture {row}" for row in range(start, start + number)]
            taken += took_s(index.add, made, names, own)
        return {"s": taken, "bytes": index.stats().bytes}


def tune(path: Path, count: int, dim: int, data: str) -> dict[str, Any]:
    """Tunes it to 0.99, by texts."""
    texts = vectors(TUNED_WITH, dim, data, "text", 5 * 10**6)
    with Index.open(path) as index:
        taken = took_s(index.tune, 0.99, texts)
        stats = index.stats()
    assert stats.tuning is not None
    (size,) = [file.stat().st_size for file in path.glob("accelerator-*")] or [0]
    return {
        "s": taken,
        "engine": stats.engine,
        "bytes": size,
        "by_entry": str(stats.tuning.by_entry),
        "by_other": str(stats.tuning.by_other),
        "mb": resident_mb(),
    }


def opening(path: Path, count: int, dim: int, data: str) -> dict[str, Any]:
    """Opens it and counts, then searches for the first time."""
    query = vectors(1, dim, data, "text", 9 * 10**6)[0]
    index = Index.open(path)
    opened_s = took_s(len, index)
    found = {"open_ms": 1000 * opened_s, "opened_mb": resident_mb()}
    return found | {"first_search_ms": 1000 * took_s(index.search, query), "searched_mb": resident_mb()}


def searching(path: Path, count: int, dim: int, data: str) -> dict[str, Any]:
    """Recall of unseen queries beside `exact=True`, with conditions too, and the time of conditions once known."""
    found: dict[str, Any] = {}
    with Index.open(path) as index:
        for kind in ("image", "text"):
            queries = vectors(UNSEEN, dim, data, kind, 9 * 10**6)
            found[f"{kind}_recall_at_10"] = recall(index.search(queries), index.search(queries, exact=True))
            found[f"{kind}_recall_at_100"] = recall(
                index.search(queries, 100), index.search(queries, 100, exact=True)
            )
            plain = statistics.median(took_s(index.search, queries[row]) for row in range(SINGLE))
            for share in SHARES:
                where = {"price": {"lt": int(1000 * share)}}
                true = index.search(queries, exact=True, where=where)
                found[f"{kind}_where_{share:g}_recall"] = recall(index.search(queries, where=where), true)
                times = [took_s(index.search, queries[row], where=where) for row in range(SINGLE)]
                found[f"{kind}_where_{share:g}_cost"] = statistics.median(times) / plain
        found["mb_after_exact_searches"] = resident_mb()
    return found


def lasting(path: Path, count: int, dim: int, data: str) -> dict[str, Any]:
    """Memory after many approximate searches, and adding one entry a call."""
    made = vectors(1000, dim, data, "image", 8 * 10**6)
    with Index.open(path) as index:
        for row in range(500):
            index.search(made[row])
        found: dict[str, Any] = {"mb": resident_mb()}
        index.remove([f"new {row}" for row in range(100)])
        times = [took_s(index.add, made[row], [f"new {row}"], [{"price": row}]) for row in range(100)]
        found["add_ms"] = 1000 * statistics.median(times)
        found["search_after_add_ms"] = 1000 * took_s(index.search, made[0])
        index.remove([f"new {row}" for row in range(100)])
    return found


def beside_faiss(path: Path, count: int, dim: int, data: str) -> dict[str, Any]:
    """Exact search in faiss over the same vectors, in turns with ours."""
    with Index.open(path) as index:
        queries = {kind: vectors(UNSEEN, dim, data, kind, 9 * 10**6) for kind in ("image", "text")}
        return rates_beside_faiss(index, queries, entries(count, dim, data))


def rates_beside_faiss(
    index: Index, queries: Mapping[str, Vectors], parts: Iterable[Vectors] | None = None
) -> dict[str, Any]:
    """`IndexFlatIP` (all threads) over `parts`, or what the index holds, in memory, in turns with the index."""
    import faiss

    flat = faiss.IndexFlatIP(index.dim)
    for part in parts if parts is not None else [np.stack([entry.vector for entry in index.iterate()])]:
        flat.add(part)
    found: dict[str, Any] = {"faiss_threads": faiss.omp_get_max_threads()}
    for kind, asked in queries.items():
        ours, theirs = [], []
        index.search(asked)
        for row in range(SINGLE):
            ours.append(took_s(index.search, asked[row]))
            theirs.append(took_s(flat.search, asked[row : row + 1], 10))
        found |= _rates(kind, "single", ours, theirs, 1)
        ours, theirs = [], []
        for start in range(0, len(asked) - BATCH + 1, BATCH):
            part = asked[start : start + BATCH]
            ours.append(took_s(index.search, part))
            theirs.append(took_s(flat.search, part, 10))
        found |= _rates(kind, "batch", ours, theirs, BATCH)
    return found


def _rates(kind: str, how: str, ours: Sequence[float], theirs: Sequence[float], each: int) -> dict[str, float]:
    own, other = (1000 * statistics.median(times) / each for times in (ours, theirs))
    return {f"{kind}_{how}_ms": own, f"{kind}_{how}_faiss_ms": other, f"{kind}_{how}_times": other / own}


def command(path: Path, count: int, dim: int, data: str) -> dict[str, Any]:
    """`protoclip search --like`, all in all, the second of two times."""
    parts = [sys.executable, "-m", "protoclip", "search", str(path), "--like", "picture 7", "--json"]
    times = [took_s(subprocess.run, parts, check=True, capture_output=True) for _ in range(2)]
    return {"s": times[-1]}


def beside_hnswlib(path: Path, count: int, dim: int, data: str) -> dict[str, Any]:
    """hnswlib over the same vectors."""
    if count > MOST_BESIDE:
        return {"left_out": f"more than {MOST_BESIDE:,} entries"}
    return hnswlib_facts(*_all_and_asked(count, dim, data))


def beside_milvus_lite(path: Path, count: int, dim: int, data: str) -> dict[str, Any]:
    """HNSW in Milvus Lite over the same vectors."""
    if count > MOST_BESIDE:
        return {"left_out": f"more than {MOST_BESIDE:,} entries"}
    return milvus_lite_facts(*_all_and_asked(count, dim, data), path.parent)


def _all_and_asked(count: int, dim: int, data: str) -> tuple[Vectors, dict[str, Vectors]]:
    asked = {kind: vectors(UNSEEN, dim, data, kind, 9 * 10**6) for kind in ("image", "text")}
    return np.concatenate(list(entries(count, dim, data))), asked


STEPS: dict[str, Callable[[Path, int, int, str], dict[str, Any]]] = {
    "fill": fill,
    "tune": tune,
    "open": opening,
    "search": searching,
    "last": lasting,
    "beside faiss": beside_faiss,
    "command": command,
    "beside hnswlib": beside_hnswlib,
    "beside milvus-lite": beside_milvus_lite,
}


def page(count: int, dim: int, found: dict[str, dict[str, dict[str, Any]]]) -> str:
    """The result."""
    import faiss

    lines = [
        "# Approximate search of a large index",
        f"`make approximate-index`: {count:,} × {dim}, {time.strftime('%B %Y')},",
        f"Python {platform.python_version()}, faiss {faiss.__version__}, NumPy {np.__version__},",
        f"{platform.system()}. A process for each step.",
    ]
    for data, steps in found.items():
        lines += ["", f"## {data}", "| step | what | |", "|---|---|---|"]
        for step, values in steps.items():
            lines += [f"| {step} | {name} | {shown(value)} |" for name, value in values.items()]
    return "\n".join([*lines, ""])


def shown(value: object) -> str:
    """A value of a table."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {part:,.0f}" for name, part in value.items())
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def main() -> None:
    """Parses, runs each step in a process, and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--data", nargs="+", choices=("easy", "hard"), default=["easy", "hard"])
    parser.add_argument(
        "--steps", nargs="+", choices=STEPS, default=list(STEPS), help="all; the last two need their packages"
    )
    parser.add_argument("--out", type=Path, default=Path(".cache/approximate_index"))
    parser.add_argument("--step", choices=STEPS, help="one step, in this process")
    parser.add_argument("--keep", action="store_true", help="keep the indexes, for steps that run later")
    parser.add_argument("--result", type=Path)
    arguments = parser.parse_args()
    if arguments.step is not None:
        path = arguments.out / f"{arguments.data[0]}.index"
        print(json.dumps(STEPS[arguments.step](path, arguments.count, arguments.dim, arguments.data[0])))
        return
    arguments.out.mkdir(parents=True, exist_ok=True)
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for data in arguments.data:
        found[data] = {}
        for step in arguments.steps:
            options = ("--count", str(arguments.count), "--dim", str(arguments.dim), "--out", str(arguments.out))
            done = subprocess.run(
                [sys.executable, __file__, "--step", step, "--data", data, *options],
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            found[data][step] = json.loads(done.stdout)
            print(data, step, json.dumps(found[data][step]), flush=True)
        if not arguments.keep:
            shutil.rmtree(arguments.out / f"{data}.index")
    if arguments.result is not None:
        write_text(arguments.result, page(arguments.count, arguments.dim, found))


if __name__ == "__main__":
    main()
