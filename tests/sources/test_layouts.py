"""What a folder holds is told by its files; where two readings are possible, both ways to say it work."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from data_folders import PICTURE, put, read, reasons, texts
from pyarrow import parquet

from protoclip.config.schema import DataConfig
from protoclip.contract.errors import ConfigError, DataError, ProtoclipError
from protoclip.data.table import load_pairs
from protoclip.sources import ReadOptions, read_pairs
from protoclip.sources.read import column_names


def test_folder_names_and_sidecars_are_two_readings(tmp_path: Path) -> None:
    put(tmp_path, {"cat/a.png": PICTURE, "cat/a.txt": "my cat", "dog/b.png": PICTURE, "dog/b.txt": "my dog"})
    with pytest.raises(ConfigError, match=r"say data\.layout=sidecars or data\.layout=class_folders"):
        read(tmp_path)
    assert texts(read(tmp_path, layout="sidecars")) == ["my cat", "my dog"]
    assert texts(read(tmp_path, layout="class_folders")) == ["cat", "dog"]


def test_shards_and_tables_are_two_readings(tmp_path: Path) -> None:
    put(tmp_path, {"a.tar": b"", "pairs.csv": "image,text\na.png,x\n"})
    with pytest.raises(ConfigError, match=r"say which with data\.layout=webdataset or data\.layout=table"):
        read(tmp_path)
    pairs = read(tmp_path, layout="table")
    assert texts(pairs) == ["x"]
    assert reasons(pairs, tmp_path) == {"a.tar": "not read: pairs.csv is"}


def test_one_table_in_two_formats_is_refused(tmp_path: Path) -> None:
    put(tmp_path, {"p.csv": "image,text\na.png,x\n", "p.jsonl": '{"image": "a.png", "text": "y"}\n'})
    with pytest.raises(ConfigError, match=r"p\.csv and p\.jsonl could be the same pairs: .*p\.csv, or both"):
        read(tmp_path)
    both = load_pairs(DataConfig(path=(str(tmp_path / "p.csv"), str(tmp_path / "p.jsonl"))))
    assert both.texts == (("x", "y"),)


def test_two_tables_of_captions_are_refused(tmp_path: Path) -> None:
    put(tmp_path, {"captions.csv": "image,text\na.png,x\n", "metadata.jsonl": "{}\n", "a.png": PICTURE})
    with pytest.raises(ConfigError, match=rf"name the one that is wanted, such as {tmp_path}/captions\.csv"):
        read(tmp_path)
    assert texts(read(tmp_path / "captions.csv")) == ["x"]


def write_parquet(path: Path, rows: list[dict[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.Table.from_pylist(rows), path)


def hub_rows(text: str) -> list[dict[str, object]]:
    return [{"image": {"bytes": PICTURE, "path": "a.png"}, "text": text}]


@pytest.mark.parametrize(
    "names",
    [
        (
            "data/train-00000-of-00002.parquet",
            "data/train-00001-of-00002.parquet",
            "data/test-00000-of-00001.parquet",
        ),
        ("default/train/0000.parquet", "default/train/0001.parquet", "default/test/0000.parquet"),
        ("train.parquet", "train-2.parquet", "test.parquet"),
        ("train/0.parquet", "train/1.parquet", "test/0.parquet"),
    ],
)
def test_splits_of_the_hub_are_told_by_name(tmp_path: Path, names: tuple[str, ...]) -> None:
    for number, name in enumerate(names):
        write_parquet(tmp_path / name, hub_rows(f"text {number}"))
    (tmp_path / "README.md").write_text("a card")
    (tmp_path / ".gitattributes").write_text("hidden")
    with pytest.raises(
        ConfigError, match=r"splits test, train: .*data\.split_column=split and data\.train_split=test"
    ):
        read(tmp_path)
    pairs = read(tmp_path, split_column="split", train_split="train")
    assert sorted(zip(texts(pairs), pairs.column("split"), strict=True)) == [
        ("text 0", "train"), ("text 1", "train"), ("text 2", "test"),
    ]  # fmt: skip
    assert sorted(texts(read(tmp_path, train_split="all"))) == ["text 0", "text 1", "text 2"]
    assert texts(read_pairs(ReadOptions((str(tmp_path),), split="test"))) == ["text 2"]
    assert "split" in column_names(ReadOptions((str(tmp_path),)))
    assert pairs.left_out == ()


def test_a_table_beside_folders_of_splits(tmp_path: Path) -> None:
    """Its rows would all be trained on, those of `test/` too."""
    put(tmp_path, {"train/1.png": PICTURE, "test/2.png": PICTURE, "test/3.png": PICTURE})
    put(tmp_path, {"metadata.csv": "file_name,text\ntrain/1.png,one\n./test/2.png,two\n"})
    fields = {"image_column": "file_name"}
    with pytest.raises(ConfigError, match=r"holds the splits test, train: say which"):
        read(tmp_path, **fields)
    pairs = read(tmp_path, split_column="split", train_split="train", **fields)
    assert list(zip(texts(pairs), pairs.column("split"), strict=True)) == [("one", "train"), ("two", "test")]
    assert texts(read_pairs(ReadOptions((str(tmp_path),), split="test"))) == ["two"]
    assert len(read_pairs(ReadOptions((str(tmp_path),), texts=False))) == 2
    assert reasons(pairs, tmp_path) == {"test/3.png": "no row names it"}
    put(tmp_path, {"metadata.csv": "file_name,text,split\ntrain/1.png,one,a\ntest/2.png,two,b\n"})
    assert read(tmp_path, **fields).column("split").tolist() == ["a", "b"]


def test_a_table_called_like_a_split_beside_one_that_is_not(tmp_path: Path) -> None:
    put(tmp_path, {"train.csv": "image,text\na.png,x\n", "more.csv": "image,text\nb.png,y\n"})
    with pytest.raises(ConfigError, match=r"train\.csv is called like a split and more\.csv is not: name those"):
        read(tmp_path)
    paths = (str(tmp_path / "train.csv"), str(tmp_path / "more.csv"))
    assert texts(load_pairs(DataConfig(path=paths))) == ["x", "y"]


def test_rows_without_a_split_beside_rows_with_one_are_refused(tmp_path: Path) -> None:
    put(tmp_path, {"a/train/red/1.png": PICTURE, "a/test/red/2.png": PICTURE, "b.csv": "image,text\nc.png,y\n"})
    paths = (str(tmp_path / "a"), str(tmp_path / "b.csv"))
    with pytest.raises(ConfigError, match=r"has splits and .*b\.csv has none: .*--set data\.train_split=all"):
        load_pairs(DataConfig(path=paths, split_column="split", train_split="train"))
    assert texts(load_pairs(DataConfig(path=paths, train_split="all"))) == ["red", "red", "y"]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_an_imagefolder_with_metadata(tmp_path: Path, suffix: str) -> None:
    def write(path: Path, name: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if suffix == "csv":
            path.write_text(f"file_name,text\n{name},{name}\n")
        elif suffix == "jsonl":
            path.write_text(json.dumps({"file_name": name, "text": name}))
        else:
            write_parquet(path, [{"file_name": name, "text": name}])

    for split in ("train", "test"):
        put(tmp_path / "splits" / split, {f"{split}.png": PICTURE})
        write(tmp_path / "splits" / split / f"metadata.{suffix}", f"{split}.png")
    put(tmp_path / "flat", {"a/a.png": PICTURE})
    write(tmp_path / "flat" / f"metadata.{suffix}", "a/a.png")
    flat = read(tmp_path / "flat", image_column="file_name")
    assert (texts(flat), flat.images) == (["a/a.png"], [tmp_path / "flat/a/a.png"])
    pairs = read(tmp_path / "splits", image_column="file_name", split_column="split", train_split="train")
    assert dict(zip(pairs.column("split"), texts(pairs), strict=True)) == {
        "train": "train.png",
        "test": "test.png",
    }
    assert pairs.read_image(0) == PICTURE


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a.tar.gz",), r"a\.tar\.gz: unpack it first"),
        (("pairs.xlsx",), r"pairs\.xlsx: save the sheet as \.csv"),
        (("pairs.json",), r"pairs\.json: write it as \.jsonl"),
        (("a.png", "b.png"), r"2 pictures without captions: put a \.txt of the same name beside each"),
        ((), r"holds no \.csv, "),
    ],
)
def test_a_folder_of_nothing_that_is_read(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    for name in names:
        (tmp_path / name).write_bytes(PICTURE if name.endswith("png") else b"PK")
    with pytest.raises(ProtoclipError, match=message):
        read(tmp_path)


def test_patterns_and_ranges(tmp_path: Path) -> None:
    for number in range(8, 12):
        put(tmp_path, {f"{number:03d}.csv": f"image,text\n{number}.png,text {number}\n"})
    assert texts(read(tmp_path / "{009..010}.csv")) == ["text 9", "text 10"]
    assert texts(read(tmp_path / "0?[01].csv")) == ["text 10", "text 11"]
    assert texts(read(tmp_path / "*.csv")) == [f"text {number}" for number in range(8, 12)]
    with pytest.raises(DataError, match=r"no file fits this pattern"):
        read(tmp_path / "*.tsv")
    with pytest.raises(ConfigError, match=r"\{3\.\.1\} goes from the smaller number to the larger"):
        read(tmp_path / "{3..1}.csv")
    put(tmp_path, {"a[1].csv": "image,text\nx.png,literally\n"})
    assert texts(read(tmp_path / "a[1].csv")) == ["literally"]


def test_a_split_column_says_more_than_the_name_of_its_file(tmp_path: Path) -> None:
    rows = {"image": [b"a", b"b"], "text": ["x", "y"], "split": ["train", "unseen"]}
    parquet.write_table(pa.table(rows), tmp_path / "train-00000-of-00001.parquet")
    assert read_pairs(ReadOptions((str(tmp_path),))).column("split").tolist() == ["train", "unseen"]
    assert read_pairs(ReadOptions((str(tmp_path),), split="train")).texts == (("x",),)


def test_pictures_of_a_split_without_captions_are_left_out_by_name(tmp_path: Path) -> None:
    put(tmp_path, {"train/captions.csv": "image,text\na.png,one\n../more/b.png,two\n", "train/a.png": PICTURE})
    put(tmp_path, {"more/b.png": PICTURE, "val/cat/c.png": PICTURE})
    pairs = read(tmp_path, split_column="split")
    assert texts(pairs) == ["one", "two"]
    assert reasons(pairs, tmp_path) == {"val/cat/c.png": "no row names it"}


@pytest.mark.parametrize("named", [True, False])
def test_a_split_that_is_not_there_says_which_are(tmp_path: Path, named: bool) -> None:
    content = "image,text\na.png,one\n" if named else "image,text,split\na.png,one,Train\nb.png,two,val\n"
    put(tmp_path, {"Train/t.csv" if named else "t.csv": content} | ({"val/t.csv": content} if named else {}))
    with pytest.raises(DataError, match=r"no row is of the split 'train': there are 'Train', 'val'"):
        read_pairs(ReadOptions((str(tmp_path),), split="train"))


def test_a_limit_must_be_a_number(tmp_path: Path) -> None:
    put(tmp_path, {"t.csv": "image,text\na.png,one\n"})
    with pytest.raises(DataError, match=r"data\.max_left_out=nan: give a share below 1, or a number"):
        read_pairs(ReadOptions((str(tmp_path),), max_left_out=float("nan")))
