"""Tables as people have them: what is unambiguous is read as it stands, the rest is refused with the way out."""

from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from protoclip.config.schema import DataConfig
from protoclip.contract.errors import ConfigError, DataError
from protoclip.data.table import load_pairs
from protoclip.sources import ReadOptions, read_pairs
from protoclip.sources.json_lines import JsonLinesPart
from protoclip.sources.listing import find_file
from protoclip.sources.text_tables import DelimitedPart

LITERAL = ["007", "1.50", "2021-05-01", "true", "False", "NA", "N/A", "#N/A", "null", "nan", "inf", "-0", "1e5"]


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read_delimited(path: Path, encoding: str = "utf-8") -> pa.Table:
    file = find_file(str(path))
    assert file is not None
    part = DelimitedPart(file, encoding)
    return pa.Table.from_batches([chunk.batch for chunk in part.chunks(part.schema().names)], part.schema())


def read_json_lines(path: Path) -> pa.Table:
    file = find_file(str(path))
    assert file is not None
    part = JsonLinesPart(file)
    return pa.Table.from_batches([chunk.batch for chunk in part.chunks(part.schema().names)], part.schema())


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl"])
def test_a_value_is_the_text_that_stands_there(tmp_path: Path, name: str) -> None:
    if name.endswith("jsonl"):
        lines = [f'{{"image": "{row}.png", "text": "{text}"}}' for row, text in enumerate(LITERAL)]
    else:
        mark = "," if name.endswith("csv") else "\t"
        lines = [f"image{mark}text", *(f"{row}.png{mark}{text}" for row, text in enumerate(LITERAL))]
    pairs = load_pairs(DataConfig(path=(str(write(tmp_path, name, "\n".join(lines))),)))
    assert [own[0] for own in pairs.texts] == LITERAL


def test_a_parquet_file_gives_the_same_texts(tmp_path: Path) -> None:
    columns = {"image": ["a", "b"], "text": ["x", "y"], "id": ["007", "008"], "new": [True, False], "n": [1, None]}
    parquet.write_table(pa.table(columns), tmp_path / "t.parquet")
    pairs = load_pairs(DataConfig(path=(str(tmp_path / "t.parquet"),)))
    found = {name: pairs.column(name).tolist() for name in ("id", "new", "n")}
    assert found == {"id": ["007", "008"], "new": ["true", "false"], "n": ["1", ""]}


@pytest.mark.parametrize(
    ("name", "content", "rows"),
    [
        ("semicolon.csv", "image;text\na.png;x, y\n", [["a.png", "x, y"]]),
        ("pipe.csv", "image| number| text\na.png| 0| two words\n", [["a.png", "0", "two words"]]),
        ("tab.csv", "image\ttext\na.png\tx\n", [["a.png", "x"]]),
        ("blanks.csv", "image, text\na.png, x\n", [["a.png", "x"]]),
        ("one_column.csv", "text\nx\n", [["x"]]),
        ("quoted.csv", 'image,text\na.png,"say ""hi"", twice\nover"\n', [["a.png", 'say "hi", twice\nover']]),
        ("inch.csv", 'image,text\na.png,a 5" disc\n', [["a.png", 'a 5" disc']]),
        ("open_quote.tsv", 'image\ttext\na.png\t"x\nb.png\ty\n', [["a.png", '"x'], ["b.png", "y"]]),
        ("quotes.tsv", 'image\ttext\na.png\t"x"\n', [["a.png", '"x"']]),
        ("mark.csv", "\ufeffimage,text\na.png,x\n", [["a.png", "x"]]),
        ("windows.csv", "image,text\r\na.png,x\r\n\r\nb.png,y\r\n", [["a.png", "x"], ["b.png", "y"]]),
        ("no_end.csv", "image,text\na.png,x", [["a.png", "x"]]),
        ("empty_fields.csv", "image,text,sku\na.png,x,\n", [["a.png", "x", ""]]),
        ("scripts.csv", "image,text\na.png,猫が寝る\nb.png,قطة\n", [["a.png", "猫が寝る"], ["b.png", "قطة"]]),
    ],
)
def test_what_is_unambiguous_is_read(tmp_path: Path, name: str, content: str, rows: list[list[str]]) -> None:
    table = read_delimited(write(tmp_path, name, content))
    assert [list(row.values()) for row in table.to_pylist()] == rows


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("open_quote.csv", 'image,text\na.png,"x\nb.png,y\n', r"line 2: a quote opens a field and is not closed"),
        ("swallow.csv", 'image,text\na.png,"x\nb.png,"y"\nc.png,z\n', r"line 2: a quote opens a field"),
        ("few.csv", "image,text\na.png\n", r"line 2 has 1 fields, but the first line has 2: .*data\.delimiter"),
        ("many.tsv", "image\ttext\na.png\tx\ty\n", r"line 2 has 3 fields, but the first line has 2"),
        (
            "both.csv",
            "image,text;more\na.png,x;y\n",
            r"the first line has ',' and ';': say .*data\.delimiter",
        ),
        ("twice.csv", "image,text,text\na.png,x,y\n", r"two columns are called 'text'"),
        ("empty.csv", "", r"is empty"),
        (
            "utf16.csv",
            "image,text\na.png,x\n".encode("utf-16"),
            r"line 1: byte 0xFF is not UTF-8: .*encoding, utf-16, as its first bytes say",
        ),
        (
            "utf16_two_marks.csv",
            "image;text|more\na.png;x\n".encode("utf-16"),
            r"line 1: byte 0xFF is not UTF-8: .*encoding, utf-16",
        ),
        ("spreadsheet.csv", 'sep=;\nimage;text\na.png;"x\n', r"line 3: a quote opens a field"),
        ("list.jsonl", "[1]\n", r"line 1: no JSON object but list"),
        ("torn.jsonl", '{"text": "x"}\n{"text": \n', r"line 2: no JSON"),
        ("byte.jsonl", b'{"text": "x"}\n{"text": "caf\xe9"}\n', r"line 2: byte 0xE9 is not UTF-8"),
    ],
)
def test_what_is_not_is_refused_with_its_line(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    path = write(tmp_path, name, content)
    read = read_json_lines if name.endswith("jsonl") else read_delimited
    with pytest.raises(DataError, match=rf"^{path}: {message}") as error:
        read(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("bad_row", [0, 7, 70_000])
def test_a_byte_of_another_encoding_is_named_and_the_encoding_is_the_way_out(tmp_path: Path, bad_row: int) -> None:
    rows = [f'{row}.png,"a, café",{row}' if row == bad_row else f"{row}.png,plain,{row}" for row in range(70_010)]
    path = write(tmp_path, "t.csv", "\n".join(["image,text,sku", *rows]).encode("cp1252"))
    with pytest.raises(DataError, match=rf"line {bad_row + 2}, column 'text': byte 0xE9 is not UTF-8"):
        read_delimited(path)
    table = read_delimited(path, encoding="cp1252")
    assert len(table) == 70_010
    assert table.column("text")[bad_row].as_py() == "a, café"
    with pytest.raises(DataError, match=r"data\.encoding='latin-99': there is no such encoding"):
        read_delimited(path, encoding="latin-99")


def test_columns_of_json_lines_may_mix_kinds(tmp_path: Path) -> None:
    content = '{"image": "a", "text": "x", "price": 1}\n\n{"image": "b", "text": ["y", 7], "price": "later"}\n'
    table = read_json_lines(write(tmp_path, "t.jsonl", content + '{"image": "c", "text": null}\n'))
    assert table.column("price").to_pylist() == ["1", "later", None]
    assert table.column("text").to_pylist() == [["x"], ["y", "7"], None]


def test_rows_of_one_picture_are_one_pair_with_all_its_texts(tmp_path: Path) -> None:
    rows = [f"{picture}.png,caption {number} of {picture}" for picture in (1, 0) for number in range(3)]
    content = "\n".join(["image,text", *rows, "1.png,caption 0 of 1"])
    pairs = load_pairs(DataConfig(path=(str(write(tmp_path, "t.csv", content)),)))
    assert [path.name for path in pairs.images] == ["1.png", "0.png"]
    assert pairs.texts == tuple(tuple(f"caption {n} of {p}" for n in range(3)) for p in (1, 0))
    assert (pairs.places.tolist(), pairs.num_read) == ([0, 3], 7)


def test_a_picture_in_two_splits_stays_in_both(tmp_path: Path) -> None:
    path = write(tmp_path, "t.csv", "image,text,split\na.png,x,train\na.png,y,val\na.png,z,train\n")
    pairs = load_pairs(DataConfig(path=(str(path),), split_column="split"))
    assert pairs.texts == (("x", "z"), ("y",))


def test_paths_that_windows_wrote_lead_to_the_files_here(tmp_path: Path) -> None:
    (tmp_path / "img").mkdir()
    for name in ("a.png", r"b\c.png"):
        (tmp_path / "img" / name).write_bytes(name.encode())
    path = write(tmp_path, "t.csv", "image,text\nimg\\a.png,x\nimg/b\\c.png,y\nimg\\gone.png,z\n")
    pairs = load_pairs(DataConfig(path=(str(path),)))
    assert [pairs.read_image(row) for row in (0, 1)] == [b"a.png", rb"b\c.png"]
    with pytest.raises(DataError, match=r"gone\.png"):
        pairs.read_image(2)


def test_a_picture_of_two_groups_stays_in_both(tmp_path: Path) -> None:
    path = write(tmp_path, "t.csv", "image,text,sku\na.png,x,1\na.png,y,2\na.png,z,1\n")
    pairs = load_pairs(DataConfig(path=(str(path),), group_column="sku"))
    assert pairs.texts == (("x", "z"), ("y",))


def test_a_bad_byte_inside_a_field_of_several_lines_names_no_column(tmp_path: Path) -> None:
    path = write(tmp_path, "t.csv", b'image,text\na.png,"first\ncaf\xe9, again"\n')
    with pytest.raises(DataError, match=r"line 3: byte 0xE9"):
        read_delimited(path)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8", "shift_jis", "gb18030"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_other_encodings_and_line_ends(tmp_path: Path, encoding: str, end: str) -> None:
    path = write(tmp_path, "t.csv", end.join(["image;text", "a.png;猫", 'b.png;"犬; 二"', ""]).encode(encoding))
    assert read_delimited(path, encoding).column("text").to_pylist() == ["猫", "犬; 二"]


def test_a_row_that_cannot_be_used_is_still_a_row_of_the_data(tmp_path: Path) -> None:
    lines = ['{"image": "a", "text": "x"}', r'{"image": "b", "text": "\ud83d"}', '{"image": "c", "text": "y"}']
    pairs = load_pairs(DataConfig(path=(str(write(tmp_path, "t.jsonl", "\n".join(lines))),)))
    assert (pairs.places.tolist(), pairs.num_read) == ([0, 2], 3)
    assert [skipped.name for skipped in pairs.left_out] == [f"{tmp_path / 't.jsonl'}: line 2"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("t.csv", b"PAR1\x15\x9c\x00", r"t\.csv: is Parquet: call it \.parquet"),
        ("t.jsonl", b"PAR1\x15\x9c\x00", r"t\.jsonl: is Parquet"),
        ("t.csv", b"PK\x03\x04\x14\x00\x9c\x9c", r"t\.csv: is a spreadsheet or another zip: save "),
        ("t.tsv", gzip.compress(b"image\ttext\n", mtime=0), r"t\.tsv: is compressed by gzip: unpack it first"),
        ("t.csv", b'[{"image": "a.png", "text": "x"}]', r"t\.csv: is JSON: call it \.jsonl, or \.json"),
        ("t.csv", '{"image": "a.png"}\n', r"t\.csv: is JSON"),
        ("t.csv", "image,text\na.png,x\n".encode("utf-16-le"), r"bytes of 0, as UTF-16 .* data\.encoding, "),
        ("t.csv", "image text\na.png x\n", r"the only column is 'image text': .* data\.delimiter; if"),
        ("t.csv", "# shop\nimage,text\na.png,x\n", r"the only column is '# shop'"),
        ("t.jsonl", '{"image": {"path": "a.png"}, "text": "x"}\n', r"paths or bytes, and it holds objects"),
        ("t.jsonl", '{"image": [["a.png"]], "text": "x"}\n', r"paths or bytes, and it holds objects"),
        ("t.jsonl", '{"image": ["a.png"], "text": "x"}\n', r"pictures are paths or bytes, and it holds list"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("texts", [True, False])
def test_what_is_called_like_a_table_and_is_none(
    tmp_path: Path, name: str, content: str | bytes, says: str, texts: bool
) -> None:
    path = write(tmp_path, name, content)
    with pytest.raises((DataError, ConfigError), match=says):
        read_pairs(ReadOptions((str(path),), texts=texts))


def test_a_struct_that_holds_no_picture_is_told(tmp_path: Path) -> None:
    sounds = pa.array([{"array": [0.5], "sampling_rate": 8000}])
    parquet.write_table(pa.table({"image": sounds, "text": ["x"]}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"column 'image': pictures are paths or bytes, and it holds struct<array"):
        read_pairs(ReadOptions((str(tmp_path / "t.parquet"),)))
