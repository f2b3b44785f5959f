"""Files of vectors are copies: whatever happens to them, answers stay right, and who writes makes them again."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from protoclip.search import Index, SegmentWarning, segments, upkeep
from protoclip.search.approximate.stored import StoredVectors
from protoclip.search.view import View

VECTORS = np.random.default_rng(0).standard_normal((40, 8)).astype(np.float32)
IDS = [str(row) for row in range(40)]


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """40 entries, 32 of them in two segments."""
    monkeypatch.setattr(upkeep, "SEGMENT_ROWS", 16)
    monkeypatch.setattr(upkeep, "MAX_ROWS", 16)
    with Index.create(tmp_path / "x.index", "0123456789abcdef", 8) as index:
        index.add(VECTORS, IDS)
    return tmp_path / "x.index"


def files(path: Path) -> list[Path]:
    return sorted(path.glob("segment-*"))


def answers(index: Index) -> list[str]:
    return [hits[0].id for hits in index.search(VECTORS, 1)]


def test_opening_and_adding_read_none(path: Path) -> None:
    assert len(files(path)) == 2
    before = {file: file.stat().st_mtime_ns for file in files(path)}
    for file in before:
        file.write_bytes(b"x" * file.stat().st_size)
    with Index.open(path) as index:
        assert len(index) == 40
        index.add(VECTORS[:1], ["new"])
    assert files(path) == list(before)


def test_a_flipped_bit_is_found_and_read_from_the_database(path: Path) -> None:
    data = bytearray(files(path)[1].read_bytes())
    data[-3] ^= 64
    files(path)[1].write_bytes(data)
    with Index.open(path) as index:
        with pytest.warns(
            SegmentWarning, match=r"segment-.* is damaged: .*`protoclip index compact` writes it again"
        ):
            assert answers(index) == IDS
        index.compact()
    with Index.open(path) as index, warnings.catch_warnings():
        warnings.simplefilter("error")
        assert answers(index) == IDS


@pytest.mark.parametrize("size", [None, 0, 100])
def test_a_missing_or_cut_one_is_read_from_the_database_and_written_again(path: Path, size: int | None) -> None:
    names = [file.name for file in files(path)]
    if size is None:
        files(path)[0].unlink()
    else:
        files(path)[0].write_bytes(files(path)[0].read_bytes()[:size])
    with warnings.catch_warnings(), Index.open(path) as index:
        warnings.simplefilter("ignore", SegmentWarning)
        assert answers(index) == IDS
        index.remove([])
    assert [file.name for file in files(path)] == names
    with Index.open(path) as index:
        assert answers(index) == IDS


def test_what_killed_processes_left_is_removed_by_the_next_writer(path: Path) -> None:
    left = [f"segment-{5:016}-{'0' * 16}.vectors", f"segment-{5:016}-{'0' * 16}.vectors.new", "new.sqlite"]
    for name in left:
        (path / name).write_bytes(b"half")
    with Index.open(path) as index:
        assert answers(index) == IDS
        assert all((path / name).exists() for name in left)
        index.add(VECTORS[:1], ["new"])
        assert not any((path / name).exists() for name in left)


def test_compact_drops_removed_entries_and_empty_segments(path: Path) -> None:
    with Index.open(path) as index, Index.open(path) as reader:
        assert answers(reader) == IDS
        assert index.remove([*IDS[:16], "20", "gone"]) == 17
        assert (index.stats().removed, index.stats().segments) == (17, 2)
        before = index.search(VECTORS, 40)
        assert {hit.id for hits in before for hit in hits} == set(IDS[16:]) - {"20"}
        index.compact()
        assert (index.stats().removed, index.stats().segments, len(files(path))) == (0, 1, 1)
        assert index.search(VECTORS, 40) == before == reader.search(VECTORS, 40)


def test_a_full_disk_after_the_commit_is_a_warning(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path, data: bytes) -> None:
        path.write_bytes(data[:10])
        raise OSError(28, "No space left on device")

    with Index.open(path) as index:
        with monkeypatch.context() as patched:
            patched.setattr(segments, "_write", fail)
            with pytest.warns(SegmentWarning, match="No space left on device: searches read the last entries"):
                index.add(VECTORS[:16], [f"more {row}" for row in range(16)])
        assert (len(index), index.stats().segments, index.stats().tail) == (56, 2, 24)
        assert len(files(path)) == 2
        index.remove("more 3")
        assert (index.stats().segments, index.stats().tail) == (3, 7)
        assert index.search(VECTORS[3], 2)[0].id == "3"


def test_readers_with_an_older_snapshot_read_what_is_gone_from_the_database(path: Path) -> None:
    with Index.open(path) as reader, Index.open(path) as writer:
        entries = reader.iterate()
        assert next(entries).id == "0"
        writer.remove(IDS[:39])
        writer.compact()
        assert [entry.id for entry in entries] == IDS[1:]
        assert [hit.id for hit in reader.search(VECTORS[0], 40)] == ["39"]


def _resident_kb(name: str) -> int:
    """Of the pages that this process has mapped of a file."""
    mapped, found = "", 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        field, _, value = line.partition(":")
        if "-" in line.split()[0]:
            mapped = line
        elif field == "Rss" and mapped.endswith(name):
            found += int(value.split()[0])
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_of_vectors_that_were_read_is_given_back_before_it_is_much(tmp_path: Path) -> None:
    """A read may map 2 MiB: 400 of them are most of a gigabyte of a large file."""
    keys = np.arange(1, 401, dtype=np.int64)
    vectors = np.random.default_rng(1).standard_normal((400, 512)).astype(np.float32)
    segment = segments.write_segment(tmp_path, keys, vectors)
    assert segment.map(tmp_path, 512)
    none = np.zeros(0, np.int64)
    stored = StoredVectors(View(0, 0, 0, (segment,), none, (none, np.zeros((0, 512), np.float32))))
    np.testing.assert_array_equal(stored.read(keys[:1])[0], vectors[:1])
    assert _resident_kb(segment.name) > 0
    np.testing.assert_array_equal(stored.read(keys)[0], vectors)
    assert _resident_kb(segment.name) == 0
