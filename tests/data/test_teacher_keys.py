"""Rows of one picture are one pair, and a teacher that is joined by a key has one feature for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet
from tiny_training import draw_picture, with_changes

from protoclip.config.schema import DataConfig
from protoclip.contract.errors import DataError
from protoclip.data.table import load_pairs
from protoclip.training.session import build_session

ROWS = ["image,text,caption_id", "a.png,red,1", "b.png,blue,2", "a.png,dark red,1", "b.png,dark blue,3"]


def write(folder: Path, rows: list[str]) -> DataConfig:
    (folder / "pairs.csv").write_text("\n".join(rows) + "\n")
    return DataConfig(path=str(folder / "pairs.csv"))


def test_rows_of_a_picture_with_two_keys_are_refused(tmp_path: Path) -> None:
    """The pair would have the feature of its first row alone."""
    config = write(tmp_path, ROWS)
    assert len(load_pairs(config)) == 2
    with pytest.raises(DataError, match=r"'caption_id': two rows of the picture b\.png have '2' and '3'"):
        load_pairs(config, "caption_id")
    apart = config.model_copy(update={"group_column": "caption_id"})
    assert list(load_pairs(apart, "caption_id").texts) == [("red", "dark red"), ("blue",), ("dark blue",)]


def test_rows_of_a_picture_with_one_key_are_one_pair(tmp_path: Path) -> None:
    assert len(load_pairs(write(tmp_path, ROWS[:-1]), "caption_id")) == 2


def test_a_run_asks_for_it_where_its_teacher_has_keys(shapes_config: dict[str, Any], tmp_path: Path) -> None:
    for name, colour in (("a", "red"), ("b", "blue")):
        (tmp_path / f"{name}.png").write_bytes(draw_picture(colour, "disc", 0))
    write(tmp_path, ROWS)
    table = pa.table({"caption_id": ["1", "2", "3"], "feature": [[1.0], [2.0], [3.0]]})
    parquet.write_table(table, tmp_path / "teacher.parquet")
    data = {"path": [str(tmp_path / "pairs.csv")], "text_columns": ["text"], "group_column": None}
    teacher = {"path": str(tmp_path / "teacher.parquet"), "key_column": "caption_id", "num_prototypes": 2}
    sizes = {"train": {"batch_size": 2}, "clustering": {"num_prototypes": 2}}
    with pytest.raises(DataError, match=r"keep them apart by data\.group_column=caption_id"):
        build_session(with_changes(shapes_config, data=data, teacher=teacher, **sizes), lambda items, _: items)
