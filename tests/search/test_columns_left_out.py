"""Columns that metadata can't hold are named, not dropped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from protoclip.search import SkippedWarning
from protoclip.search.sources import image_source, read_metadata
from protoclip.sources import ReadOptions


def write(folder: Path, name: str, columns: dict[str, pa.Array]) -> str:
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / f"{name}.png")
    parquet.write_table(pa.table({"image": [f"{name}.png"]} | columns), folder / f"{name}.parquet")
    return str(folder / f"{name}.parquet")


def test_columns_left_out_are_listed(tmp_path: Path) -> None:
    sizes = pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64()))
    first = write(tmp_path, "a", {"price": pa.array([1.5]), "sizes": sizes, "seen": pa.array([[1, 2]])})
    second = write(
        tmp_path, "b", {"price": pa.array([2.5]), "sizes": sizes, "seen": pa.array([[3]]), "only": ["x"]}
    )
    source = image_source(ReadOptions((first, second), texts=False, decoded_here=False))
    assert [dict(entry.metadata) for entry in source.items] == [{"price": 1.5}, {"price": 2.5}]
    values = "values are texts, numbers, dates or lists of texts"
    found = {entry.name: entry.reason for entry in source.skipped}
    assert found.pop("column 'only'") == "is not in all of the tables"
    for name, kind in (("sizes", "map"), ("seen", "list")):
        reason = found.pop(f"column '{name}'")
        assert (reason[: len(kind) + 7], reason.rpartition(">: ")[2]) == (f"holds {kind}<", values)
    assert found == {}


def test_nothing_is_left_out_of_plain_columns(tmp_path: Path) -> None:
    path = write(tmp_path, "a", {"price": pa.array([1.5]), "words": pa.array([["a", "b"]])})
    source = image_source(ReadOptions((path,), texts=False, decoded_here=False))
    assert source.skipped == ()


def test_a_table_of_metadata_warns(tmp_path: Path) -> None:
    sizes = pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64()))
    path = write(tmp_path, "a", {"price": pa.array([1.5]), "sizes": sizes})
    with pytest.warns(SkippedWarning, match=r"metadata: column 'sizes' is left out: it holds map<"):
        assert read_metadata(path) == {"a.png": {"price": 1.5}}
