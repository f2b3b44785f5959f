from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from protoclip.config.schema import DataConfig
from protoclip.contract.errors import ConfigError, DataError
from protoclip.data.table import load_pairs, training_pairs
from protoclip.sources.names import IMAGE_NAMES, TEXT_NAMES, find_column

ROWS = [
    {"image": "a.png", "text": "a cat", "kind": "cat", "price": 1.5},
    {"image": "b.png", "text": "ein Hund, süß", "kind": "dog", "price": 2.0},
    {"image": "c.png", "text": "猫が寝る", "kind": "cat", "price": 3.0},
]


def config(path: Path, **fields: object) -> DataConfig:
    return DataConfig(path=(str(path),), **fields)  # type: ignore[arg-type]


def write_rows(folder: Path, suffix: str) -> Path:
    path = folder / f"pairs.{suffix}"
    if suffix == "parquet":
        parquet.write_table(pa.Table.from_pylist(ROWS), path)
    elif suffix == "jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS), encoding="utf-8")
    else:
        comma = "\t" if suffix == "tsv" else ","
        quote = "" if suffix == "tsv" else '"'
        lines = [comma.join(ROWS[0])]
        lines += [comma.join(f"{quote}{value}{quote}" for value in row.values()) for row in ROWS]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_every_kind_of_table_reads_the_same(tmp_path: Path, suffix: str) -> None:
    pairs = load_pairs(config(write_rows(tmp_path, suffix)))
    assert pairs.texts == tuple((row["text"],) for row in ROWS)
    assert pairs.images == [tmp_path / "a.png", tmp_path / "b.png", tmp_path / "c.png"]
    assert pairs.column("kind").tolist() == ["cat", "dog", "cat"]
    assert pairs.column("price").tolist() == ["1.5", "2.0", "3.0"]


def test_several_text_columns_and_lists_make_one_tuple(tmp_path: Path) -> None:
    rows = [{"image": b"x", "title": "shoe", "tags": ["red", "shoe", " ", None]}, {"image": b"y", "title": None}]
    path = tmp_path / "p.parquet"
    parquet.write_table(pa.Table.from_pylist(rows), path)
    pairs = load_pairs(config(path, text_columns=("title", "tags")))
    assert pairs.texts == (("shoe", "red"),)
    assert pairs.read_image(0) == b"x"


def test_pictures_of_a_dataset_column(tmp_path: Path) -> None:
    rows = [
        {"image": {"bytes": b"x", "path": None}, "text": "a"},
        {"image": {"bytes": None, "path": "y"}, "text": "b"},
    ]
    path = tmp_path / "p.parquet"
    parquet.write_table(pa.Table.from_pylist(rows), path)
    assert load_pairs(config(path)).images == [b"x", tmp_path / "y"]


def test_a_folder_joins_its_files_in_order(tmp_path: Path) -> None:
    for name, text in (("b.csv", "second"), ("a.csv", "first")):
        (tmp_path / name).write_text(f"image,text\n{text}.png,{text}\n")
    assert [own[0] for own in load_pairs(config(tmp_path)).texts] == ["first", "second"]


def test_selection_keeps_rows_together(tmp_path: Path) -> None:
    pairs = load_pairs(config(write_rows(tmp_path, "csv")))
    cats = pairs.select(pairs.column("kind") == "cat")
    assert [own[0] for own in cats.texts] == ["a cat", "猫が寝る"]
    assert cats.images == [tmp_path / "a.png", tmp_path / "c.png"]
    assert pairs.select(np.array([2, 0])).column("price").tolist() == ["3.0", "1.5"]


def test_the_training_split(tmp_path: Path) -> None:
    chosen = config(write_rows(tmp_path, "csv"), split_column="kind", train_split="dog")
    assert len(training_pairs(load_pairs(chosen), chosen)) == 1
    wrong = config(tmp_path / "pairs.csv", split_column="kind", train_split="bird")
    with pytest.raises(DataError, match="no row has kind = 'bird': the column holds cat, dog"):
        training_pairs(load_pairs(wrong), wrong)


@pytest.mark.parametrize(
    ("content", "fields", "message"),
    [
        ("image,text\n", {}, r"bad\.csv: holds no row"),
        ("image,text\na.png,\n", {}, "no row has a text in text"),
        ("image,caption\na.png,x\n", {}, r"bad\.csv: column 'text' isn't there: it has image, caption"),
        ("image,text\na.png,x\n", {"group_column": "g"}, "column 'g' isn't there"),
        ("image,text\n,x\n", {}, r"line 2: names no picture"),
        ('image,text\n"a,b\n', {}, r"bad\.csv: line 2: a quote opens a field and is not closed"),
    ],
)
def test_a_bad_table_is_named(tmp_path: Path, content: str, fields: dict[str, str], message: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        load_pairs(config(path, **fields))


def test_missing_and_unknown_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.path: .*gone: no such file or folder"):
        load_pairs(config(tmp_path / "gone"))
    with pytest.raises(DataError, match=r"holds no \.csv, \.tsv, \.jsonl, \.parquet, \.tar file"):
        load_pairs(config(tmp_path))
    (tmp_path / "x.xlsx").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"x\.xlsx: unknown kind of file"):
        load_pairs(config(tmp_path / "x.xlsx"))
    (tmp_path / "x.parquet").write_bytes(b"not parquet")
    with pytest.raises(DataError, match=r"x\.parquet: can't be read as parquet"):
        load_pairs(config(tmp_path / "x.parquet"))


def test_a_missing_picture_is_named(tmp_path: Path) -> None:
    pairs = load_pairs(config(write_rows(tmp_path, "csv")))
    with pytest.raises(DataError, match=r"b\.png: can't be read: No such file"):
        pairs.read_image(1)


def test_nan_is_no_caption(tmp_path: Path) -> None:
    columns = {"image": ["a", "b", "c"], "text": [1.5, float("nan"), 2.0]}
    parquet.write_table(pa.table(columns), tmp_path / "t.parquet")
    pairs = load_pairs(config(tmp_path / "t.parquet"))
    assert pairs.texts == (("1.5",), ("2.0",))
    assert [item.reason for item in pairs.left_out] == ["no text"]


def test_the_column_of_pictures_is_not_proposed_for_the_texts() -> None:
    with pytest.raises(ConfigError, match=r"""like --set 'data.text_columns=\["title of it"\]'"""):
        find_column(["image", "title of it"], TEXT_NAMES, "text_columns")
    with pytest.raises(ConfigError, match=r"like --set data\.image_column=shot"):
        find_column(["caption", "shot"], IMAGE_NAMES, "image_column")
