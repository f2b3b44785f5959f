"""Four processes that write to an index and eight that read it, for minutes: no wrong answer, no error but "busy".

    make index-crowd

Each writer has entries of its own: it upserts them together, in one call with the same version, adds and removes
others, and compacts. In memory that all share it says which version it has begun to write, and which one was
acknowledged. A reader must see each writer's entries whole, all of one version, no older than what had been
acknowledged when it began its search and no newer than what had been begun when it ended; and every hit must be an
entry as it was written. At the end the index must hold what the writers know to have written.
"""

from __future__ import annotations

import argparse
import multiprocessing
import platform
import random
import sqlite3
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protoclip.contract.errors import IndexBusyError
from protoclip.contract.files import write_text
from protoclip.search import Index, upkeep

WRITERS, READERS = 4, 8
DIM, TOGETHER = 16, 5
SEGMENT_ROWS, MAX_ROWS = 64, 256
LONGEST_WAIT_S = 60.0
State = dict[str, int]


@dataclass(frozen=True)
class Told:
    """What one process says at its end: calls that went through, calls that were turned away, what went wrong."""

    kind: str
    calls: int
    busy: int
    error: str
    state: State


class Versions:
    """Of each writer, the version that it has begun to write and the one that was acknowledged."""

    def __init__(self, context: Any) -> None:
        self.begun = context.RawArray("q", WRITERS)
        self.done = context.RawArray("q", WRITERS)


def vector(name: str, version: int) -> NDArray[np.float32]:
    """The vector `[D]` of a version of an entry, of unit norm."""
    made = np.random.default_rng([*name.encode(), version]).standard_normal(DIM)
    return (made / np.linalg.norm(made)).astype(np.float32)


def rows(names: list[str], version: int) -> tuple[NDArray[np.float32], list[str], list[dict[str, object]]]:
    """What `add` and `upsert` take."""
    metadata: list[dict[str, object]] = [{"name": name, "version": version} for name in names]
    return np.stack([vector(name, version) for name in names]), names, metadata


def write(index: Index, writer: int, versions: Versions, end_s: float) -> tuple[int, int, State]:
    """Calls and refusals until `end_s`, and what is in the index of this writer then."""
    rng = random.Random(writer)
    together = [f"{writer} together {number}" for number in range(TOGETHER)]
    state: State = {}
    calls = busy = number = 0
    while time.monotonic() < end_s or not calls:
        number += 1
        kind = rng.choice(("together", "together", "add", "remove", "compact"))
        try:
            if kind == "together":
                versions.begun[writer] = number
                index.upsert(*rows(together, number))
                versions.done[writer] = number
                state.update(dict.fromkeys(together, number))
            elif kind == "add":
                names = [f"{writer} single {number} {row}" for row in range(rng.randint(1, 30))]
                index.add(*rows(names, number))
                state.update(dict.fromkeys(names, number))
            elif kind == "remove":
                others = sorted(state.keys() - set(together))
                names = rng.sample(others, min(len(others), rng.randint(1, 30)))
                assert index.remove(names) == len(names)
                state = {name: version for name, version in state.items() if name not in names}
            elif rng.random() < 0.2:
                index.compact()
            calls += 1
        except IndexBusyError:
            # It says so before it begins.
            busy += 1
    return calls, busy, state


def read(index: Index, reader: int, versions: Versions, end_s: float) -> tuple[int, int, State]:
    """Searches and looks until `end_s`."""
    rng = np.random.default_rng(reader)
    calls = 0
    while time.monotonic() < end_s or not calls:
        writer = int(rng.integers(WRITERS))
        least = versions.done[writer]
        if calls % 2:
            check_hits(index, rng)
        else:
            check_together(index, writer, least, versions)
        calls += 1
    return calls, 0, {}


def check_hits(index: Index, rng: np.random.Generator) -> None:
    """Every hit is an entry as it was written, once, and the best come first."""
    query = rng.standard_normal(DIM)
    query /= np.linalg.norm(query)
    hits = index.search(query, 20)
    for hit in hits:
        assert hit.metadata["name"] == hit.id, hit
        assert abs(hit.score - vector(hit.id, hit.metadata["version"]) @ query) < 1e-5, hit
    assert len({hit.id for hit in hits}) == len(hits), hits
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True), hits


def check_together(index: Index, writer: int, least: int, versions: Versions) -> None:
    """What a writer wrote in one call is there as a whole, and is neither older nor newer than can be."""
    name = f"{writer} together 0"
    names = [f"{writer} together {number}" for number in range(TOGETHER)]
    hits = index.search(vector(name, least), 50, where={"name": {"in": list(names)}})
    found = {hit.id: hit.metadata["version"] for hit in hits}
    if not found:
        assert least == 0, f"{writer}: version {least} was acknowledged, and nothing is there"
        return
    assert sorted(found) == names, f"{writer}: half of a call was seen: {found}"
    assert len(set(found.values())) == 1, f"{writer}: halves of two calls were seen: {found}"
    version = found[name]
    assert least <= version <= versions.begun[writer], f"{writer}: {least} was acknowledged, and {version} is seen"


def process(
    kind: str, number: int, path: Path, versions: Versions, seconds: float, answers: Any, barrier: Any
) -> None:
    """One writer or reader, with an index of its own."""
    upkeep.SEGMENT_ROWS, upkeep.MAX_ROWS = SEGMENT_ROWS, MAX_ROWS
    work: Callable[..., tuple[int, int, State]] = write if kind == "writer" else read
    calls, busy, state, error = 0, 0, State(), ""
    try:
        with Index.open(path) as index:
            barrier.wait(LONGEST_WAIT_S)
            calls, busy, state = work(index, number, versions, time.monotonic() + seconds)
    except Exception:  # noqa: BLE001 - whoever started this process raises it
        error = traceback.format_exc()
    answers.put(Told(kind, calls, busy, error, state))


def run(folder: Path, seconds: float) -> list[Told]:
    """All processes on an index of their own; raises AssertionError with what any of them found."""
    path = folder / "crowd.index"
    Index.create(path, "0123456789abcdef", DIM).close()
    context = multiprocessing.get_context("fork")
    versions, answers = Versions(context), context.Queue()
    barrier = context.Barrier(WRITERS + READERS)
    kinds = [("writer", number) for number in range(WRITERS)] + [("reader", number) for number in range(READERS)]
    started = [
        context.Process(target=process, args=(kind, number, path, versions, seconds, answers, barrier))
        for kind, number in kinds
    ]
    with warnings.catch_warnings():
        # Python 3.12 warns of threads, which NumPy has and no child uses.
        warnings.simplefilter("ignore", DeprecationWarning)
        for one in started:
            one.start()
    try:
        told: list[Told] = [answers.get(timeout=seconds + LONGEST_WAIT_S) for _ in started]
    finally:
        for one in started:
            one.join(LONGEST_WAIT_S)
            one.kill()
    errors = [one.error for one in told if one.error]
    assert not errors, "\n".join(errors)
    check_end(path, told)
    return told


def check_end(path: Path, told: list[Told]) -> None:
    """The index holds what the writers know to have written, and its folder nothing else."""
    expected = {name: version for one in told for name, version in one.state.items()}
    with Index.open(path) as index:
        found = {entry.id: entry for entry in index.iterate()}
        assert {name: entry.metadata["version"] for name, entry in found.items()} == expected
        for name, version in expected.items():
            assert np.abs(found[name].vector - vector(name, version)).max() < 1e-6, f"{name} has another vector"
        index.remove([])
        segments = index.stats().segments
    names = [file.name for file in path.iterdir()]
    assert sum(name.startswith("segment-") for name in names) == segments, names
    assert {name for name in names if not name.startswith("segment-")} == {"index.sqlite", "writer.lock"}, names


def page(told: list[Told], seconds: float) -> str:
    """The result."""
    writers, readers = ([one for one in told if one.kind == kind] for kind in ("writer", "reader"))
    calls, busy = sum(one.calls for one in writers), sum(one.busy for one in writers)
    shares = ", ".join(str(one.calls) for one in writers)
    entries = sum(len(one.state) for one in writers)
    return "\n".join(
        [
            "# Four writers and eight readers of one index",
            f"`make index-crowd`: {time.strftime('%B %Y')}, Python {platform.python_version()}, "
            f"SQLite {sqlite3.sqlite_version}, {platform.system()}, {seconds:.0f} s, a process each.",
            "",
            f"{calls} calls of the writers ({shares}) and {sum(one.calls for one in readers)} of the readers; "
            f"{busy} were told that the index is busy.",
            "",
            "No reader saw a part of a call, a state older than what was acknowledged before it asked, or a hit",
            f'that was not an entry as it was written; nobody got an error but "busy". At the end all {entries}',
            "entries were there with metadata and vector, nothing else, and no file that the index doesn't name.",
            "",
        ]
    )


def main() -> None:
    """Parses, runs and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--out", type=Path, default=Path(".cache/index_crowd"), help="a folder that isn't there")
    parser.add_argument("--result", type=Path)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True)
    found = page(run(arguments.out, arguments.seconds), arguments.seconds)
    print(found)
    if arguments.result is not None:
        write_text(arguments.result, found)


if __name__ == "__main__":
    main()
