"""Files that aren't what was written: damaged ones, and those of strangers."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from protoclip.contract.errors import IndexBusyError, IndexFileError, ProtoclipError
from protoclip.search import Index

VECTORS = np.random.default_rng(0).standard_normal((200, 8)).astype(np.float32)
IDS = [f"entry {row}" for row in range(200)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with Index.create(tmp_path / "x.index", "0123456789abcdef", 8) as index:
        index.add(VECTORS, IDS, [{"row": row} for row in range(200)])
    return tmp_path / "x.index"


def _change(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path / "index.sqlite")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (
            "CREATE TRIGGER t AFTER DELETE ON entries BEGIN SELECT load_extension('x'); END",
            "holds 't', or lacks it",
        ),
        ("CREATE VIEW v AS SELECT * FROM entries", "holds 'v', or lacks it"),
        ("CREATE TABLE more (x)", "holds 'more', or lacks it"),
        ("DROP TABLE removed", "holds 'removed', or lacks it"),
        ("PRAGMA application_id = 1", "is no index of ProtoCLIP"),
        ("PRAGMA user_version = 3", "has format 3, and this version reads 2: update ProtoCLIP"),
        ("DELETE FROM meta WHERE name = 'dim'", "lacks 'dim'"),
    ],
)
def test_another_schema_is_refused(path: Path, statement: str, message: str) -> None:
    _change(path, statement)
    with pytest.raises(IndexFileError, match=message):
        Index.open(path)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE entries SET metadata = '{\"row\": 4}' WHERE key = 4", "entry 'entry 3' is damaged or changed"),
        ("UPDATE entries SET id = x'00' WHERE key = 4", "is damaged or changed"),
        ("UPDATE vectors SET vector = zeroblob(32) WHERE key = 4", "the vector of entry 4 is damaged or changed"),
        ("UPDATE vectors SET vector = zeroblob(31) WHERE key = 4", "the vector of entry 4 is damaged or changed"),
    ],
)
def test_a_changed_row_is_found(path: Path, statement: str, message: str) -> None:
    _change(path, statement)
    with Index.open(path) as index:
        with pytest.raises(IndexFileError, match=message):
            index.search(VECTORS[3])
        with pytest.raises(IndexFileError, match=message):
            list(index.iterate())


@pytest.mark.parametrize("size", [0, 100, 16384, 40000])
def test_a_cut_file_is_one_line(path: Path, size: int) -> None:
    data = (path / "index.sqlite").read_bytes()
    (path / "index.sqlite").write_bytes(data[:size])
    with pytest.raises(IndexFileError, match=r"index\.sqlite: ") as caught, Index.open(path) as index:
        index.search(VECTORS[3], 200)
    assert "\n" not in str(caught.value)


def test_flipped_bits_give_the_same_answer_or_one_line(path: Path) -> None:
    """Bytes of all pages, one after the other."""
    whole = (path / "index.sqlite").read_bytes()
    with Index.open(path) as index:
        expected = index.search(VECTORS[:5], 20)
    found = []
    for place in range(0, len(whole), 997):
        changed = bytearray(whole)
        changed[place] ^= 0x10
        (path / "index.sqlite").write_bytes(changed)
        try:
            with Index.open(path) as index:
                assert index.search(VECTORS[:5], 20) == expected, f"byte {place}"
        except ProtoclipError as error:
            found.append(str(error))
    assert len(found) > 3
    assert [message for message in found if "\n" in message or "index.sqlite" not in message] == []


def test_no_file_of_sqlite_at_all(path: Path) -> None:
    (path / "index.sqlite").write_bytes(b"holiday picture" * 1000)
    with pytest.raises(IndexFileError, match=r"damaged or changed since it was written .*: build the index again"):
        Index.open(path)


def test_a_folder_that_can_not_be_written_is_searched(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    before = sorted(file.name for file in path.iterdir())
    with Index.open(path) as index:
        assert index.search(VECTORS[3], 1)[0].id == "entry 3"
        assert sorted(file.name for file in path.iterdir()) == before


def _no_folder_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)


def test_who_can_not_write_sees_what_others_wrote(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _no_folder_can_be_written(monkeypatch)
    with Index.open(path) as reader:
        assert len(reader.search(VECTORS[0], 300)) == 200
        with Index.open(path) as writer:
            writer.remove(IDS[:50])
            # Under way.
            assert len(reader) == len(reader.search(VECTORS[0], 300)) == 150
        with Index.open(path) as writer:
            writer.upsert(-VECTORS[50:51], ["entry 50"])
            writer.compact()
        hits = reader.search(VECTORS[50], 300)
        assert (len(hits), hits[-1].id, hits[-1].score) == (150, "entry 50", pytest.approx(-1))
        assert reader.get("entry 0") is None


def test_written_while_it_is_read_without_a_lock(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _no_folder_can_be_written(monkeypatch)
    with Index.open(path) as reader:
        entries = reader.iterate()
        next(entries)
        with Index.open(path) as writer:
            writer.remove(IDS[:50])
        with pytest.raises(IndexBusyError, match=r"was written to while it was read, .*: ask again"):
            list(entries)
        assert len(reader) == len(list(reader.iterate())) == 150


def test_a_log_that_can_not_be_read(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a folder that was copied while it was open, to where it can't be written: not what was before the log."""
    copy = tmp_path / "copy.index"
    copy.mkdir()
    with Index.open(path) as index:
        index.remove(IDS[:50])
        for name in ("index.sqlite", "index.sqlite-wal"):
            shutil.copy(path / name, copy / name)
    # SQLite can't make its file here, as in a folder that can't be written.
    (copy / "index.sqlite-shm").symlink_to(tmp_path / "gone" / "shm")
    _no_folder_can_be_written(monkeypatch)
    with pytest.raises(IndexFileError, match=r"its last changes lie in index\.sqlite-wal, which can't be read"):
        Index.open(copy)
