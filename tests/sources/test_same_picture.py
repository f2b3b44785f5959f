"""Rows of one picture, however its path is written: one pair; pictures in a table itself: a pair each."""

from __future__ import annotations

import os
import tarfile
import unicodedata
from pathlib import Path

import fsspec
import pyarrow as pa
import pytest
from pyarrow import parquet

from protoclip.sources import Pairs, ReadOptions, read_pairs


def read(*paths: Path, **fields: object) -> Pairs:
    return read_pairs(ReadOptions(tuple(map(str, paths)), **fields))  # type: ignore[arg-type]


def write(path: Path, *rows: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(["image,text", *rows, ""]), encoding="utf-8")
    return path


def test_ways_to_write_a_path(tmp_path: Path) -> None:
    rows = [r"img/a.png,1", r"./img/a.png,2", r"img//a.png,3", r"img\a.png,4", r"img/./a.png,5", "img/b.png,6"]
    pairs = read(write(tmp_path / "t.csv", *rows))
    assert list(pairs.texts) == [("1", "2", "3", "4", "5"), ("6",)]
    assert list(pairs.images) == [tmp_path / "img/a.png", tmp_path / "img/b.png"]


def test_an_absolute_path_is_one_file_in_tables_of_several_folders(tmp_path: Path) -> None:
    first = write(tmp_path / "one" / "t.csv", f"{tmp_path}/a.png,1", "a.png,2")
    second = write(tmp_path / "two" / "t.csv", f"{tmp_path}/a.png,3", "a.png,4")
    assert list(read(first, second).texts) == [("1", "3"), ("2",), ("4",)]


def test_paths_in_a_column_that_may_hold_pictures(tmp_path: Path) -> None:
    images = [{"bytes": None, "path": "a.png"}, {"bytes": b"x", "path": "a.png"}, {"bytes": b"y", "path": "a.png"}]
    images += [{"bytes": None, "path": "./a.png"}]
    parquet.write_table(pa.table({"image": images, "text": list("1234")}), tmp_path / "t.parquet")
    pairs = read(tmp_path / "t.parquet")
    assert list(pairs.texts) == [("1", "4"), ("2",), ("3",)]
    assert list(pairs.images) == [tmp_path / "a.png", b"x", b"y"]


def test_a_table_beside_an_archive(tmp_path: Path) -> None:
    table = write(tmp_path / "t.csv", "a.png,1", "a.png,2")
    (tmp_path / "0.txt").write_text("3")
    (tmp_path / "0.png").write_bytes(b"x")
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        for name in ("0.png", "0.txt"):
            tar.add(tmp_path / name, name)
    assert list(read(table, tmp_path / "s.tar").texts) == [("1", "2"), ("3",)]


@pytest.mark.parametrize("written", ["NFC", "NFD"])
@pytest.mark.parametrize("there", ["NFC", "NFD"])
def test_letters_composed_as_on_the_mac_or_not(tmp_path: Path, written: str, there: str) -> None:
    (tmp_path / unicodedata.normalize(there, "café è.png")).write_bytes(b"x")
    table = write(tmp_path / "t.csv", unicodedata.normalize(written, "café è.png,1"))  # type: ignore[arg-type]
    assert read(table).read_image(0) == b"x"


def test_a_path_from_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    for name in ("home/a.png", "~b.png", "50%20.png", "007"):
        (tmp_path / name).write_bytes(name.encode())
    pairs = read(write(tmp_path / "t.csv", "~/a.png,1", "~b.png,2", "50%20.png,3", "007,4"))
    assert [pairs.read_image(row) for row in range(4)] == [b"home/a.png", b"~b.png", b"50%20.png", b"007"]
    assert os.fspath(pairs.images[0]) == str(tmp_path / "home" / "a.png")  # type: ignore[arg-type]


def test_stores_know_no_absolute_path(tmp_path: Path) -> None:
    store = fsspec.filesystem("memory")
    for bucket in ("one", "two"):
        store.pipe(
            f"/same-{bucket}/t.csv", f"image,text\n/a.png,{bucket}\nmemory://whole/b.png,{bucket}\n".encode()
        )
    pairs = read_pairs(ReadOptions(("memory://same-one/t.csv", "memory://same-two/t.csv")))
    assert list(pairs.texts) == [("one",), ("one", "two"), ("two",)]
    assert [str(image) for image in pairs.images] == [
        "memory://same-one/a.png",
        "memory://whole/b.png",
        "memory://same-two/a.png",
    ]


def test_a_folder_called_like_an_address_is_one(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder / "a").mkdir(parents=True)
        (tmp_path / folder / "t.csv").write_text(f"image,text\na/s3://b.png,{folder}\n", encoding="utf-8")
    tables = [str(tmp_path / folder / "t.csv") for folder in ("one", "two")]
    assert list(read_pairs(ReadOptions(tuple(tables))).texts) == [("one",), ("two",)]
