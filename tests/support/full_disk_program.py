"""Does something again and again on a disk that is full from its n-th change on, for every n: FOLDER CASE.

Started with `full_disk.c` preloaded. Prints how many changes the case makes on a disk that has room.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from corpus_program import write
from pyarrow import parquet

from protoclip.client import Client, InMemoryTransport, MemoryModel
from protoclip.contract.errors import IndexFileError, ProtoclipError
from protoclip.search import Index, upkeep

FINGERPRINT, DIM = "0123456789abcdef", 8
State = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """Attributes:
    act: what is done below a folder, and again where it failed.
    read: what is there; {} for nothing.
    begin: makes what is there before.
    in_parts: what was done before the disk was full stays, as a part of the whole.
    reopens: it opens again what it has made, which may fail after all is there.
    """

    act: Callable[[Path], object]
    read: Callable[[Path], State]
    begin: Callable[[Path], object] = lambda folder: None
    in_parts: bool = False
    reopens: bool = False


class Disk:
    """The one below `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._library = ctypes.CDLL(os.environ["LD_PRELOAD"])
        self._library.full_disk_begin.argtypes = (ctypes.c_char_p, ctypes.c_long)
        self._library.full_disk_end.restype = ctypes.c_long
        self.changes = 0

    @contextmanager
    def room_for(self, changes: int) -> Iterator[None]:
        """Is full within the block after so many changes, never for -1; then counts them."""
        self._library.full_disk_begin(os.fsencode(self._folder), changes)
        try:
            yield
        finally:
            self.changes = self._library.full_disk_end()


def vectors(ids: list[str], version: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.stack(
        [np.random.default_rng([version, *name.encode()]).standard_normal(DIM) for name in ids]
    ).astype(np.float32)


def make(folder: Path) -> None:
    """60 entries in two segments, some of them removed, and a tail."""
    ids = [str(number) for number in range(60)]
    with Index.create(folder / "x.index", FINGERPRINT, DIM) as index:
        for start in range(0, 60, 20):
            part = ids[start : start + 20]
            index.add(vectors(part, 0), part, [{"text": 50 * "x"}] * 20)
        index.remove(ids[3:50:7])


def entries(folder: Path) -> State:
    path = folder / "x.index"
    if not path.exists():
        return {}
    try:
        with Index.open(path) as index:
            found = {entry.id: (dict(entry.metadata), entry.vector.tobytes()) for entry in index.iterate()}
            hits = index.search(np.eye(DIM)[0], 1000)
    except IndexFileError as error:
        if "its build isn't finished" in str(error):
            return {}
        raise
    assert sorted(hit.id for hit in hits) == sorted(found)
    return found


def changed(change: Callable[[Index], object]) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        with Index.open(folder / "x.index") as index:
            change(index)

    return act


def build(folder: Path) -> None:
    model = MemoryModel(len, lambda text: vectors([text], 1)[0], DIM, name="tiny", fingerprint=FINGERPRINT)
    with Client(transport=InMemoryTransport(model), batch_size=4, concurrency=1) as client:
        Index.build(folder / "x.index", client, texts=[f"text {number}" for number in range(6)]).close()


def parts(folder: Path) -> State:
    """The rows of each Parquet file, none of which is half there."""
    return {file.name: repr(parquet.read_table(file).to_pylist()) for file in sorted(folder.rglob("*.parquet"))}


MORE = [f"more {number}" for number in range(40)]
CASES = {
    "create": Case(lambda folder: Index.create(folder / "x.index", FINGERPRINT, DIM).close(), entries),
    "add": Case(changed(lambda index: index.add(vectors(MORE, 0), MORE, [{"n": 1}] * 40)), entries, make),
    "upsert": Case(
        changed(lambda index: index.upsert(vectors(["1", "2", *MORE], 1), ["1", "2", *MORE])), entries, make
    ),
    "remove": Case(changed(lambda index: index.remove(["1", "25", "59"])), entries, make),
    "compact": Case(changed(lambda index: index.compact()), entries, make),
    "build": Case(build, entries, reopens=True),
    "build in place": Case(build, entries, make, reopens=True),
    "embed": Case(lambda folder: write("embeddings", folder / "out", 23), parts, in_parts=True),
    "embed one file": Case(lambda folder: write("embeddings", folder / "out.parquet", 23), parts, in_parts=True),
}


def try_every(case: Case, base: Path) -> int:
    """How many changes it makes; fails where one of them, for want of room, leaves anything but old or new."""
    before, done, work = base / "before", base / "done", base / "work"
    before.mkdir()
    case.begin(before)
    shutil.copytree(before, done)
    disk = Disk(base)
    with disk.room_for(-1):
        case.act(done)
    num_changes, old, new, names = disk.changes, case.read(before), case.read(done), kinds(done)
    for room in range(num_changes):
        shutil.copytree(before, work)
        told = tried(lambda: case.act(work), disk, room)
        state = case.read(work)
        if told.startswith("warned: "):
            assert state == new, (room, told)
        elif case.in_parts:
            assert state.items() <= new.items() or all(name not in new for name in state), (room, told)
        else:
            assert state == old or (case.reopens and state == new), (room, told)
        case.act(work) if not told.startswith("warned: ") else changed(lambda index: index.remove([]))(work)
        assert (case.read(work), kinds(work)) == (new, names), (room, told)
        shutil.rmtree(work)
    return num_changes


def tried(act: Callable[[], object], disk: Disk, room: int) -> str:
    """The line that was told: of an error, or of a warning where it was done all the same."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            with disk.room_for(room):
                act()
        except ProtoclipError as error:
            line = str(error)
        else:
            # Closing an index writes too, what can be written as well by the next one that opens it.
            line = "warned: " + "; ".join(str(one.message) for one in warned)
    assert "\n" not in line, line
    assert line.startswith("warned: ") or "can't be written: " in line, line
    return line


def kinds(folder: Path) -> list[str]:
    """The files below, of segments not which."""
    names = (file.relative_to(folder).as_posix() for file in folder.rglob("*"))
    return sorted(name.partition("segment-")[0] + ("segment" if "segment-" in name else "") for name in names)


if __name__ == "__main__":
    upkeep.SEGMENT_ROWS, upkeep.MAX_ROWS = 16, 48
    print(try_every(CASES[sys.argv[2]], Path(sys.argv[1])))
