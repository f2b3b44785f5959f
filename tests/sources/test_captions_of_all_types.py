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


BEYOND = {
    "date": pa.array([0, 2**31 - 1], pa.int32()).cast(pa.date32()),
    "days": pa.array([0, 10**15], pa.int64()).view(pa.date64()),
    "seconds": pa.array([0, -(2**53)], pa.int64()).view(pa.timestamp("s")),
    "micro": pa.array([1, 2**62], pa.int64()).view(pa.timestamp("us", tz="UTC")),
    "zone": pa.array([0, 1], pa.int64()).view(pa.timestamp("us", tz="Mars/Olympus")),
    "long": pa.array([60, 2**62], pa.int64()).view(pa.duration("s")),
    "clock": pa.array([0, 2**60], pa.int64()).view(pa.time64("us")),
}
BEYOND_AS_TEXT = {
    "date": ["1970-01-01", "5881580-07-11"],
    "days": ["1970-01-01", "33658-09-27"],
    "seconds": ["1970-01-01 00:00:00", "-285424812-02-20 16:23:28.000"],
    "micro": ["1970-01-01 00:00:00.000001+00:00", "17036-07-06 14:00:27.387904Z"],
    "zone": ["1970-01-01 00:00:00.000000Z", "1970-01-01 00:00:00.000001Z"],
    "long": ["0:01:00", str(2**62)],
    "clock": ["00:00:00", str(2**60)],
}


@pytest.mark.parametrize("name", BEYOND)
def test_times_that_python_does_not_know(tmp_path: Path, name: str) -> None:
    """As a column, as lists of captions, and as what an index keeps."""
    times, texts = BEYOND[name], BEYOND_AS_TEXT[name]
    assert read(tmp_path, at=times).column("at").tolist() == texts
    assert list(read(tmp_path, text=times).texts) == [(text,) for text in texts]
    assert list(read(tmp_path, text=pa.ListArray.from_arrays([0, 1, 2], times)).texts) == [(t,) for t in texts]
    options = ReadOptions((str(tmp_path / "t.parquet"),), texts=False)
    read(tmp_path, at=times.dictionary_encode() if name == "date" else times)
    assert [item.metadata["at"] for item in image_source(options).items] == texts


@pytest.mark.parametrize("make", [pa.list_view, pa.large_list_view])
@pytest.mark.parametrize("kind", [pa.string(), pa.string_view(), pa.binary_view(), pa.large_string()], ids=str)
def test_lists_of_captions_as_views(tmp_path: Path, make: Any, kind: Any) -> None:
    values = [["a", "b"], None, [], ["c"]]
    lists = make_lists(values, make(kind))
    images = [f"{name}.png" for name in "abcd"]
    pairs = read(tmp_path, image=images, text=lists, tags=make_lists(values, make(pa.string())))
    assert list(pairs.texts) == [("a", "b"), ("c",)]
    assert [skipped.reason for skipped in pairs.left_out] == ["no text", "no text"]
    assert list(pairs.columns.raw("tags")) == [["a", "b"], ["c"]]  # type: ignore[attr-defined]


def make_lists(values: list[list[str] | None], kind: Any) -> Any:
    return (
        pa.array([None if own is None else [text.encode() for text in own] for own in values], kind)
        if (kind.value_type == pa.binary_view())
        else pa.array(values, kind)
    )


def test_columns_of_extension_types(tmp_path: Path) -> None:
    """DuckDB and polars write ids as UUIDs, which could be no column that keeps groups apart."""
    ids = pa.array([b"\0" * 15 + bytes([number]) for number in (1, 2)], pa.binary(16)).cast(pa.uuid())
    captions = pa.array(CAPTIONS).cast(pa.json_())
    pairs = read(tmp_path, id=ids, text=captions)
    assert pairs.column("id").tolist() == [f"00000000-0000-0000-0000-00000000000{number}" for number in (1, 2)]
    assert list(pairs.texts) == [(text,) for text in CAPTIONS]
