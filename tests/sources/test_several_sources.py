"""A list of sources of different kinds: each row keeps its picture, its texts and the source that it is from."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pyarrow as pa
import pytest
from data_folders import put, write_tar
from pyarrow import parquet

from protoclip.config.schema import DataConfig
from protoclip.contract.errors import ConfigError, DataError
from protoclip.data.table import load_pairs
from protoclip.sources import ReadOptions, read_pairs
from protoclip.sources.stored import ImageColumn
from protoclip.training.defaults import config_from_data


@pytest.fixture
def paths(tmp_path: Path) -> tuple[str, ...]:
    """Five sources; the pictures are their own names."""
    rows = "image,text,price\nt/1.png,one,1\nt/1.png,eins,1\nt/2.png,two,2\n"
    put(tmp_path, {"t.csv": rows, "t/1.png": "t/1", "t/2.png": "t/2"})
    put(tmp_path / "classes", {"red/1.png": "red/1", "blue/2.png": "blue/2"})
    put(tmp_path / "beside", {"1.png": "beside/1", "1.txt": "beside one", "1.json": '{"price": 7}'})
    write_tar(tmp_path / "s.tar", {"1.png": b"tar/1", "1.json": b'{"text": ["a", "b"]}'})
    parquet.write_table(pa.table({"image": [b"parquet/1"], "text": ["of parquet"]}), tmp_path / "p.parquet")
    fsspec.filesystem("memory").pipe({"/several/x.csv": b"image,text\nx.png,far\n", "/several/x.png": b"x"})
    names = ("t.csv", "s.tar", "classes", "p.parquet", "beside")
    return (*(str(tmp_path / name) for name in names), "memory://several/x.csv")


EXPECTED = [
    (b"t/1", ("one", "eins"), 0),
    (b"t/2", ("two",), 0),
    (b"tar/1", ("a", "b"), 1),
    (b"blue/2", ("blue",), 2),
    (b"red/1", ("red",), 2),
    (b"parquet/1", ("of parquet",), 3),
    (b"beside/1", ("beside one",), 4),
    (b"x", ("far",), 5),
]


@pytest.mark.parametrize("turned", [False, True])
def test_sources_of_every_kind_together(paths: tuple[str, ...], turned: bool) -> None:
    pairs = load_pairs(DataConfig(path=paths[::-1] if turned else paths))
    assert isinstance(pairs.images, ImageColumn)
    found = [
        (pairs.read_image(row), pairs.texts[row], 5 - source if turned else source)
        for row, source in enumerate(pairs.images.sources.tolist())
    ]
    assert sorted(found, key=lambda row: row[2]) == EXPECTED
    assert pairs.left_out == ()
    backwards = pairs.select(pairs.places.argsort()[::-1])
    assert [backwards.read_image(row) for row in range(8)] == [row[0] for row in found[::-1]]


def test_columns_that_one_source_lacks_are_no_columns(paths: tuple[str, ...]) -> None:
    assert list(load_pairs(DataConfig(path=(paths[0],))).columns) == ["price", "text"]
    assert "price" not in load_pairs(DataConfig(path=paths)).columns
    with pytest.raises(DataError, match=r"s\.tar: column 'price' isn't there"):
        load_pairs(DataConfig(path=paths, group_column="price"))


def test_pictures_in_tables_are_named_by_their_own_table(tmp_path: Path) -> None:
    """Also where rows before them were left out, were merged, or are of another file."""
    bare = pa.table({"image": [None, b"x", b"y"], "text": ["no picture", "a", "b"]})
    named = [{"bytes": b"z", "path": "z.png"}, {"bytes": None, "path": "t.png"}, {"bytes": None, "path": "t.png"}]
    parquet.write_table(bare, tmp_path / "bare.parquet")
    parquet.write_table(pa.table({"image": named, "text": ["c", "d", "e"]}), tmp_path / "named.parquet")
    paths = (str(tmp_path / "bare.parquet"), str(tmp_path / "named.parquet"))
    pairs = load_pairs(DataConfig(path=paths))
    rows = ["bare.parquet: row 1", "bare.parquet: row 2", "named.parquet: row 0 (z.png)", "t.png"]
    wanted = [str(tmp_path / row) for row in rows]
    assert [pairs.picture_place(row) for row in range(len(pairs))] == wanted
    backwards = pairs.select([3, 2, 0])
    assert [backwards.picture_place(row) for row in range(3)] == [wanted[3], wanted[2], wanted[0]]


@pytest.mark.parametrize("second", ["image,caption\nb.png,b\n", "image,price\nb.png,1\n"])
def test_tables_that_call_a_column_otherwise_are_named(tmp_path: Path, second: str) -> None:
    put(tmp_path, {"one.csv": "image,text\na.png,a\n", "two.csv": second})
    columns = second.partition("\n")[0].replace(",", ", ")
    wanted = rf"data\.text_columns: .*one\.csv has text, and .*two\.csv has {columns}: rename the column there"
    with pytest.raises(ConfigError, match=wanted):
        config_from_data(tmp_path, ())
    with pytest.raises(ConfigError, match=wanted):
        read_pairs(ReadOptions((str(tmp_path),)))
    with pytest.raises(DataError, match=rf"two\.csv: column 'text' isn't there: it has {columns}: rename its own"):
        load_pairs(DataConfig(path=(str(tmp_path / "one.csv"), str(tmp_path / "two.csv"))))
