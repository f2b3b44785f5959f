"""Kills a process that writes to an index at random moments, and compares what is left with what was acknowledged.

    make index-crashes

Each round starts a process that adds, upserts, removes, compacts, tunes, and loses its accelerator, which the next
call has made anew beside it; kills it by SIGKILL, and opens the index.
Every acknowledged entry must be there once, with its metadata and its vector, and nothing else; the call that was
under way when the signal came must be there as a whole or not at all. Meanwhile the same index is searched by two
readers that stay open over all rounds, and whose every hit must be an entry as it was written.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import sqlite3
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from protoclip.contract.files import write_text
from protoclip.search import AcceleratorWarning, Index, upkeep
from protoclip.search.approximate import choosing, tuning

DIM = 16
NUM_IDS = 400
# Small ones, so that many are made, joined and written again.
SEGMENT_ROWS, MAX_ROWS = 32, 128
FEWEST = 64
LONGEST_S = 0.4
READERS = 2
State = dict[str, int]


@dataclass(frozen=True)
class Round:
    """What one kill found: acknowledged calls, and the file names that were left."""

    calls: int
    under_way: str
    entries: int


def vector(name: str, version: int) -> NDArray[np.float32]:
    """The vector `[D]` of a version of an entry, of unit norm."""
    made = np.random.default_rng([*name.encode(), version]).standard_normal(DIM)
    return (made / np.linalg.norm(made)).astype(np.float32)


def state_of(index: Index) -> State:
    """Version by id; fails where an entry isn't what was written, or is there twice."""
    state: State = {}
    for entry in index.iterate():
        version = entry.metadata["version"]
        assert entry.id not in state, f"{entry.id} is there twice"
        assert entry.metadata == {"name": entry.id, "version": version}, entry
        assert np.abs(entry.vector - vector(entry.id, version)).max() < 1e-6, f"{entry.id} has another vector"
        state[entry.id] = version
    assert len(index) == len(state)
    return state


def work(path: Path, journal: Path, seed: int) -> None:
    """Writes for ever; a line in the journal before each call says what it does, one after it that it is done."""
    warnings.simplefilter("ignore", AcceleratorWarning)
    upkeep.SEGMENT_ROWS, upkeep.MAX_ROWS = SEGMENT_ROWS, MAX_ROWS
    # So few are compared sooner without an accelerator.
    choosing.LEAST_SPEEDUP, tuning.FEWEST = 0.0, FEWEST
    rng = random.Random(seed)
    with Index.open(path) as index, open(journal, "a", buffering=1, encoding="utf-8") as log:
        state = state_of(index)
        print("ready", flush=True)
        while True:
            kind, change = _draw(rng, state)
            log.write(json.dumps({"call": kind, "change": change}) + "\n")
            _call(index, kind, change)
            log.write("done\n")
            state = changed(state, change)


def _draw(rng: random.Random, state: State) -> tuple[str, dict[str, int | None]]:
    kind = rng.choice(("add", "add", "upsert", "remove", "compact", "tune", "lose"))
    names = [f"entry {number}" for number in range(NUM_IDS)]
    new, old = [name for name in names if name not in state], sorted(state)
    version = rng.randrange(1 << 30)
    if kind == "add" and new:
        return kind, dict.fromkeys(rng.sample(new, min(len(new), rng.randint(1, 40))), version)
    if kind == "upsert":
        return kind, dict.fromkeys(rng.sample(names, rng.randint(1, 20)), version)
    if kind == "remove" and old:
        return kind, dict.fromkeys(rng.sample(old, min(len(old), rng.randint(1, 30))))
    if kind == "lose":
        return kind, {}
    return "tune" if kind == "tune" and len(state) >= FEWEST else "compact", {}


def _call(index: Index, kind: str, change: dict[str, int | None]) -> None:
    if kind == "compact":
        index.compact()
    elif kind == "tune":
        # One that is made anew beside this call has the lock.
        index.settle()
        index.tune(0.9)
    elif kind == "lose":
        for file in index.path.glob("accelerator-*"):
            file.unlink(missing_ok=True)
    elif kind == "remove":
        index.remove(change)
    else:
        rows = {name: version for name, version in change.items() if version is not None}
        metadata = [{"name": name, "version": version} for name, version in rows.items()]
        write = index.add if kind == "add" else index.upsert
        write(np.stack([vector(*row) for row in rows.items()]), list(rows), metadata)


def changed(state: State, change: dict[str, int | None]) -> State:
    """The state after a call."""
    merged = {**state, **change}
    return {name: version for name, version in merged.items() if version is not None}


class Reader:
    """Searches in a thread until it is stopped, and keeps the first wrong answer."""

    def __init__(self, path: Path, seed: int) -> None:
        self._seed = seed
        self.error: Exception | None = None
        self.searches = 0
        self._index = Index.open(path)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        rng = np.random.default_rng(self._seed)
        try:
            while not self._stopped.is_set() or not self.searches:
                query = rng.standard_normal(DIM)
                query /= np.linalg.norm(query)
                hits = self._index.search(query, 20)
                for hit in hits:
                    assert hit.metadata["name"] == hit.id, hit
                    assert abs(hit.score - vector(hit.id, hit.metadata["version"]) @ query) < 1e-5, hit
                assert len({hit.id for hit in hits}) == len(hits), hits
                self.searches += 1
        except Exception as error:  # noqa: BLE001 - `stop` raises it
            self.error = error

    def stop(self) -> None:
        """Ends the thread and raises what it found."""
        self._stopped.set()
        self._thread.join()
        self._index.close()
        if self.error is not None:
            raise self.error


def kill_once(path: Path, journal: Path, seed: int, state: State) -> tuple[State, Round]:
    """One process, killed at a random moment after its first call; what was found, one of two possible states."""
    journal.unlink(missing_ok=True)
    command = [sys.executable, __file__, "--work", str(path), str(journal), "--seed", str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        # Each round kills work, however slow the disk is.
        while process.poll() is None and not (journal.exists() and "done" in journal.read_text(encoding="utf-8")):
            time.sleep(0.001)
        time.sleep(random.Random(seed).uniform(0, LONGEST_S))
        process.kill()
    lines = journal.read_text(encoding="utf-8").splitlines() if journal.exists() else []
    calls, under_way = 0, {"call": "none", "change": {}}
    for line in lines:
        if line == "done":
            state = changed(state, under_way["change"])
            calls, under_way = calls + 1, {"call": "none", "change": {}}
        elif line.endswith("}"):
            under_way = json.loads(line)
    with Index.open(path) as index:
        found = state_of(index)
        assert found in (state, changed(state, under_way["change"])), (
            f"seed {seed}: {under_way['call']} is half there"
        )
    return found, Round(calls, under_way["call"], len(found))


def check_files(path: Path) -> None:
    """After the next call that writes, nothing is in the folder that no transaction names."""
    # A lost accelerator is forgotten here: beside two readers it would take long to make.
    with Index.open(path) as index, patch.object(tuning, "FEWEST", 2 * NUM_IDS):
        index.remove([])
        index.settle()
        segments, is_tuned = index.stats().segments, index.stats().engine != "exact"
    names = sorted(file.name for file in path.iterdir())
    accelerators = [name for name in names if name.startswith("accelerator-")]
    assert len(accelerators) == int(is_tuned), names
    others = [name for name in names if not name.startswith(("segment-", "accelerator-"))]
    # SQLite's own files stay while a reader has the database open.
    assert set(others) <= {"index.sqlite", "index.sqlite-shm", "index.sqlite-wal", "writer.lock", "tuning.lock"}, (
        names
    )
    assert len(names) - len(others) - len(accelerators) == segments, names


def run(folder: Path, rounds: int, seed: int = 0) -> list[Round]:
    """All rounds in an index of their own, with two readers open."""
    warnings.simplefilter("ignore", AcceleratorWarning)
    path, journal = folder / "crashes.index", folder / "journal"
    Index.create(path, "0123456789abcdef", DIM).close()
    state: State = {}
    done = []
    with ExitStack() as readers:
        for number in range(READERS):
            readers.callback(Reader(path, number).stop)
        for number in range(rounds):
            state, one = kill_once(path, journal, 1000 * seed + number, state)
            check_files(path)
            done.append(one)
    return done


def page(rounds: Sequence[Round], seconds: float) -> str:
    """The result."""
    kinds = sorted({one.under_way for one in rounds})
    counts = ", ".join(f"{sum(one.under_way == kind for one in rounds)} × {kind}" for kind in kinds)
    return "\n".join(
        [
            "# An index whose writer is killed",
            f"`make index-crashes`: {time.strftime('%B %Y')}, Python {platform.python_version()}, "
            f"SQLite {sqlite3.sqlite_version}, {platform.system()}, {seconds:.0f} s.",
            "",
            f"{len(rounds)} × SIGKILL, {sum(one.calls for one in rounds)} acknowledged calls. Under way at the",
            f"signal: {counts}.",
            "",
            "Every acknowledged entry was there once, with its metadata and vector, and nothing else; every call",
            "that was under way was there as a whole or not at all; no file was left that the index doesn't name;",
            "every hit of the two readers that stayed open was an entry as it was written.",
            "",
        ]
    )


def main() -> None:
    """Parses, runs and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--work", nargs=2, type=Path, metavar=("INDEX", "JOURNAL"), help="be the one that is killed"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path(".cache/index_crashes"), help="a folder that isn't there")
    parser.add_argument("--result", type=Path)
    arguments = parser.parse_args()
    if arguments.work is not None:
        work(*arguments.work, arguments.seed)
    arguments.out.mkdir(parents=True)
    began = time.monotonic()
    found = page(run(arguments.out, arguments.rounds, arguments.seed), time.monotonic() - began)
    print(found)
    if arguments.result is not None:
        write_text(arguments.result, found)


if __name__ == "__main__":
    main()
