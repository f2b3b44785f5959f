"""Captions and other columns of the types that writers of Parquet and JSON Lines give them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from protoclip.contract.errors import DataError
from protoclip.search.sources import image_source
from protoclip.sources import Pairs, ReadOptions, read_pairs

NAMES, CAPTIONS = ["a.png", "b.png"], ["süß", "猫"]
RAW = [caption.encode() for caption in CAPTIONS]
SECOND = 1_700_000_000 * 10**9


def read(folder: Path, **columns: Any) -> Pairs:
    parquet.write_table(pa.table({"image": NAMES, "text": CAPTIONS} | columns), folder / "t.parquet")
    return read_pairs(ReadOptions((str(folder / "t.parquet"),)))


@pytest.mark.parametrize(
    "texts",
    [
        pa.array(RAW),
        pa.array(RAW, pa.large_binary()),
        pa.array(RAW).dictionary_encode(),
        pa.array([[raw] for raw in RAW]),
        pa.array([[text] for text in CAPTIONS], pa.large_list(pa.large_string())),
        pa.array([[text] for text in CAPTIONS], pa.list_(pa.string(), 1)),
        pa.array(CAPTIONS).dictionary_encode(),
        pa.array(CAPTIONS, pa.string_view()),
        pa.array(RAW, pa.binary_view()),
        pa.array([[text] for text in CAPTIONS], pa.list_(pa.string_view())),
        pa.array([[text] for text in CAPTIONS], pa.list_(pa.string_view(), 1)),
        pa.array([[raw] for raw in RAW], pa.large_list(pa.binary_view())),
        pa.ListArray.from_arrays([0, 1, 2], pa.array(RAW).dictionary_encode()),
    ],
    ids=lambda texts: str(texts.type),
)
def test_captions_are_what_was_written(tmp_path: Path, texts: Any) -> None:
    """Also where a row is left out, so that others are taken."""
    assert read(tmp_path, text=texts).texts == [(text,) for text in CAPTIONS]
    images = pa.array([None, NAMES[1]], pa.string_view())
    rest = read(tmp_path, text=texts, image=images, kind=pa.array(["x", "y"], pa.string_view()))
    assert rest.texts == [(CAPTIONS[1],)]
    assert rest.images == [tmp_path / NAMES[1]]
    assert rest.column("kind").tolist() == ["y"]


def test_captions_in_bytes_are_metadata_of_an_index(tmp_path: Path) -> None:
    read(tmp_path, text=pa.array(RAW))
    options = ReadOptions((str(tmp_path / "t.parquet"),), texts=False)
    assert [dict(item.metadata) for item in image_source(options).items] == [{"text": text} for text in CAPTIONS]


@pytest.mark.parametrize(
    "texts",
    [
        pa.array([[[text]] for text in CAPTIONS]),
        pa.array([{"en": text} for text in CAPTIONS]),
        pa.array([[{"raw": text}] for text in CAPTIONS]),
        pa.array([[("en", text)] for text in CAPTIONS], pa.map_(pa.string(), pa.string())),
    ],
    ids=lambda texts: str(texts.type),
)
def test_what_holds_no_texts_is_refused(tmp_path: Path, texts: Any) -> None:
    with pytest.raises(DataError, match=r"t\.parquet: column 'text': captions are texts .* data\.text_columns"):
        read(tmp_path, text=texts)


@pytest.mark.parametrize("value", [{"en": "a cat"}, [{"raw": "a cat"}], [["a cat"]]])
def test_objects_in_json_lines_are_no_captions(tmp_path: Path, value: Any) -> None:
    rows = [{"image": "a.png", "text": "a dog", "facts": value}, {"image": "b.png", "text": "a cat"}]
    path = tmp_path / "t.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    assert read_pairs(ReadOptions((str(path),))).texts == [("a dog",), ("a cat",)]
    path.write_text("\n".join(json.dumps(row) for row in (*rows, {"image": "c.png", "text": value})))
    with pytest.raises(
        DataError, match=r"t\.jsonl: column 'text': captions are texts .* objects or lists in lists"
    ):
        read_pairs(ReadOptions((str(path),)))


@pytest.mark.parametrize("form", ["plain", "list", "dictionary"])
@pytest.mark.parametrize("as_bytes", [True, False])
def test_a_caption_that_is_not_utf8_is_named_by_its_row(tmp_path: Path, as_bytes: bool, form: str) -> None:
    raw = pa.array([b"tea", b"caf\xe9"])
    texts = raw if as_bytes else pa.Array.from_buffers(pa.string(), 2, raw.buffers())
    if form == "list":
        texts = pa.ListArray.from_arrays([0, 1, 2], texts)
    elif form == "dictionary":
        texts = pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.int32()), texts)
    with pytest.raises(DataError, match=r"t\.parquet: row 1: column 'text': a text that is not UTF-8"):
        read(tmp_path, text=texts)


def test_times_in_nanoseconds(tmp_path: Path) -> None:
    times = pa.array([SECOND, SECOND + 1], pa.timestamp("ns"))
    pairs = read(tmp_path, at=times, long=times.cast(pa.int64()).cast(pa.duration("ns")))
    assert pairs.column("at").tolist() == ["2023-11-14 22:13:20", "2023-11-14 22:13:20.000000001"]
    assert pairs.column("long").tolist() == ["19675 days, 22:13:20", "1700000000000000001"]
    assert read(tmp_path, at=times.dictionary_encode()).column("at")[1] == "2023-11-14 22:13:20.000000001"


def test_pictures_by_dictionary(tmp_path: Path) -> None:
    pairs = read(tmp_path, image=pa.array([b"one", b"two"]).dictionary_encode())
    assert [pairs.read_image(row) for row in range(2)] == [b"one", b"two"]


def test_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    columns = [pa.array(column) for column in (NAMES, CAPTIONS, CAPTIONS, CAPTIONS)]
    table = pa.Table.from_arrays(columns, names=["image", "text", "other", "other"])
    parquet.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"t\.parquet: two columns are called 'other': rename one of them"):
        read_pairs(ReadOptions((str(tmp_path / "t.parquet"),)))


def test_nan_in_json_lines_is_no_caption(tmp_path: Path) -> None:
    rows = [{"image": "a.png", "text": "a cat"}, {"image": "b.png", "text": float("nan")}]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pairs = read_pairs(ReadOptions((str(tmp_path / "t.jsonl"),)))
    assert pairs.texts == [("a cat",)]
    assert [skipped.reason for skipped in pairs.left_out] == ["no text"]
