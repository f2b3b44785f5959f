"""Several writers and readers of one index: whole calls are seen, and the only error is "busy"."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest

from protoclip.contract.errors import IndexBusyError
from protoclip.search import Index, upkeep
from protoclip.search.writer_lock import WriterLock

WRITERS, READERS = 4, 8
CALLS = 20
VECTORS = np.eye(8, dtype=np.float32)


class Crowd:
    """Threads with an index of their own each, and the first error of any."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.written = [0] * WRITERS
        self.searched = [0] * READERS
        self.is_over = False
        self.errors: list[Exception] = []

    def run(self) -> None:
        """Each writer makes `CALLS` calls; the readers go on until the last of them is done."""
        writers = [threading.Thread(target=self._guarded, args=(self._write, row)) for row in range(WRITERS)]
        readers = [threading.Thread(target=self._guarded, args=(self._search, row)) for row in range(READERS)]
        for thread in (*writers, *readers):
            thread.start()
        for thread in writers:
            thread.join()
        self.is_over = True
        for thread in readers:
            thread.join()

    def _guarded(self, target, row: int) -> None:  # type: ignore[no-untyped-def]
        try:
            with Index.open(self.path) as index:
                while target(index, row) and not self.errors:
                    pass
        except Exception as error:  # noqa: BLE001 - the test raises it
            self.errors.append(error)

    def _write(self, index: Index, row: int) -> bool:
        """Two entries at once, which no reader may see one of; every fifth pair is removed again."""
        number = self.written[row]
        names = [f"{row}/{number}/a", f"{row}/{number}/b"]
        try:
            index.add(VECTORS[[row, row]], names, [{"writer": row}] * 2)
            if number % 5 == 0:
                index.remove(names)
            if number % 16 == 15:
                index.compact()
        except IndexBusyError:
            # Removed or not: it says so before it begins.
            pass
        self.written[row] += 1
        return self.written[row] < CALLS

    def _search(self, index: Index, row: int) -> bool:
        names = [entry.id.rpartition("/")[0] for entry in index.iterate()]
        assert len(names) == 2 * len(set(names)), "half of a call was seen"
        hits = index.search(VECTORS[row % WRITERS], 50, where={"writer": row % WRITERS})
        assert all(hit.score == 1 for hit in hits)
        self.searched[row] += 1
        return not self.is_over


def test_only_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "SEGMENT_ROWS", 16)
    Index.create(tmp_path / "x.index", "0123456789abcdef", 8).close()
    crowd = Crowd(tmp_path / "x.index")
    crowd.run()
    assert crowd.errors == []
    assert crowd.written == [CALLS] * WRITERS
    assert min(crowd.searched) > 0


def test_the_second_writer_is_told_who_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protoclip.search.writer_lock.WAIT_S", 0.05)
    with Index.create(tmp_path / "x.index", "0123456789abcdef", 8) as index:
        index.add(VECTORS[:1], ["a"])
        with WriterLock(index.path).held():
            with pytest.raises(
                IndexBusyError, match="another Index of this process writes to it: wait until it has"
            ):
                index.add(VECTORS[:1], ["b"])
            (index.path / "writer.lock").write_text("4711")
            with pytest.raises(
                IndexBusyError, match=r"process 4711 writes to it: wait until it has ended, or end it"
            ):
                index.remove("a")
            assert len(index.search(VECTORS[0])) == 1
        index.add(VECTORS[:1], ["b"])
        assert len(index) == 2


def test_a_forked_process_goes_on_with_its_own_connections(tmp_path: Path) -> None:
    with Index.create(tmp_path / "x.index", "0123456789abcdef", 8) as index:
        index.add(VECTORS[:1], ["a"])
        child = os.fork()
        if not child:
            try:
                index.add(VECTORS[1:2], ["child"])
                os._exit(0 if len(index.search(VECTORS[0])) == 2 else 1)
            finally:
                os._exit(2)
        assert os.waitpid(child, 0)[1] == 0
        index.add(VECTORS[2:3], ["parent"])
        assert [entry.id for entry in index.iterate()] == ["a", "child", "parent"]
