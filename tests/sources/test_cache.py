"""The cache of tables: kept, found again, made anew when it is damaged, and shared by processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from data_folders import PICTURE, texts
from pyarrow import parquet

from protoclip.contract.errors import ProtoclipError
from protoclip.sources import Pairs, ReadOptions, arrow_store, cache, read, read_pairs

ROWS = 300
READ = """
import sys
from pathlib import Path
from protoclip.sources import ReadOptions, cache, read_pairs
cache._LARGE_BYTES = 0
pairs = read_pairs(ReadOptions((sys.argv[1],), cache_dir=Path(sys.argv[2])))
print(len(pairs), sum(map(len, (own[0] for own in pairs.texts))))
"""


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table that counts as large and was not changed lately."""
    monkeypatch.setattr(cache, "_LARGE_BYTES", 0)
    path = tmp_path / "pairs.csv"
    path.write_text("image,text\n" + "".join(f"{row}.png,text {row}\n" for row in range(ROWS)) + ",no picture\n")
    os.utime(path, (1e9, 1e9))
    return path


def read_anew(table: Path) -> Pairs:
    """As the next process reads."""
    cache._recent.clear()
    return read_pairs(ReadOptions((str(table),), cache_dir=table.parent / "cache"))


def kept(table: Path) -> list[Path]:
    return sorted(path for path in (table.parent / "cache").iterdir() if path.suffix != ".lock")


def times_read(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Grows by one for each reading."""
    found: list[None] = []
    original = read._read
    monkeypatch.setattr(read, "_read", lambda *given: found.append(None) or original(*given))
    return found


def test_a_table_is_read_once(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = times_read(monkeypatch)
    first, second = read_anew(table), read_anew(table)
    assert len(counted) == 1
    assert [path.suffix for path in kept(table)] == [".arrow", ".json", ".npy"]
    for found in (first, second):
        assert texts(found) == [f"text {row}" for row in range(ROWS)]
        assert (found.places.tolist(), found.num_read) == (list(range(ROWS)), ROWS + 1)
        assert [skipped.name for skipped in found.left_out] == [f"{table}: line {ROWS + 2}"]
    os.utime(table, (1e9, 1e9 + 1))
    read_anew(table)
    assert len(counted) == 2


@pytest.mark.parametrize("suffix", [".arrow", ".json", ".npy"])
@pytest.mark.parametrize("damage", ["gone", "empty", "cut", "other"])
def test_a_damaged_file_is_made_anew(
    table: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, damage: str
) -> None:
    read_anew(table)
    path = next(path for path in kept(table) if path.suffix == suffix)
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "other" and suffix == ".npy":
        np.save(path, np.arange(ROWS - 1))
    elif damage == "other" and suffix == ".json":
        about = json.loads(content)
        del about["origins"]
        path.write_text(json.dumps(about))
    else:
        path.write_bytes({"empty": b"", "cut": content[:-30], "other": b"x" * len(content)}[damage])
    counted = times_read(monkeypatch)
    assert texts(read_anew(table)) == [f"text {row}" for row in range(ROWS)]
    assert len(counted) == 1
    read_anew(table)
    assert len(counted) == 1


def test_what_a_killed_process_left_is_removed(table: Path) -> None:
    read_anew(table)
    (key,) = {path.stem for path in kept(table)}
    for path in kept(table):
        path.unlink()
    leftover = table.parent / "cache" / f".{key}.123.0.arrow"
    leftover.write_bytes(b"half")
    other = table.parent / "cache" / ".another.123.0.arrow"
    other.write_bytes(b"half")
    read_anew(table)
    assert not leftover.exists()
    assert other.exists()


def test_processes_that_start_together_read_the_same(table: Path) -> None:
    folder = table.parent / "cache"
    command = [sys.executable, "-c", READ, str(table), str(folder)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert {process.communicate(timeout=120)[0].strip() for process in processes} == {"300 2290"}
    assert [path.suffix for path in kept(table)] == [".arrow", ".json", ".npy"]


def test_a_folder_that_can_not_be_written(table: Path, caplog: pytest.LogCaptureFixture) -> None:
    (table.parent / "cache").write_text("a file")
    assert len(read_anew(table)) == ROWS
    assert "data.cache_dir" in caplog.text
    assert "can't be written" in caplog.text


def test_pictures_in_parquet_do_not_stay_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrow_store, "MEMORY_BYTES", 2**20)
    rows = [{"image": PICTURE + bytes([row % 256]) * 30_000, "text": f"text {row}"} for row in range(200)]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet", row_group_size=20)
    before = pa.total_allocated_bytes()
    pairs = read_pairs(ReadOptions((str(tmp_path / "t.parquet"),)))
    assert pa.total_allocated_bytes() - before < 2**20
    assert [pairs.read_image(row) for row in (0, 199)] == [rows[0]["image"], rows[199]["image"]]


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: Path) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(arrow_store, "write_file", full)
    with pytest.raises(
        ProtoclipError, match=r"No space left on device: give data\.cache_dir, or TMPDIR, a folder"
    ):
        read_anew(table)
    assert kept(table) == []
