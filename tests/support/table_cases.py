"""Tables as people have them, and the right answer to each: what every command that reads data must give.

60 pictures of one colour each lie in `img/` beside the table, as `img/0.png` to `img/59.png`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
from PIL import Image
from pyarrow import parquet

NUM_PICTURES = 60
NO_TEXT = "no text"
Captions = Mapping[str, tuple[str, ...]]
THINGS: Captions = {f"img/{number}.png": (f"thing number {number}",) for number in range(NUM_PICTURES)}


@dataclass(frozen=True)
class Case:
    """A table and the answer to it.

    Attributes:
        name: of the file.
        content: text is written in UTF-8.
        pairs: the captions of each picture, by its name in the table; none: it is refused.
        refused: an expression that the one line must fit, in the words of a command's options.
        options: of reading, without which it is refused or read in another way.
        left_out: the reason of each that is left out, by the end of its name.
        for_texts: refused only where texts are taken.
    """

    name: str
    content: str | bytes
    pairs: Captions = field(default_factory=dict)
    refused: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    for_texts: bool = False

    def write(self, folder: Path) -> Path:
        path = folder / self.name
        path.write_bytes(self.content.encode() if isinstance(self.content, str) else self.content)
        return path


def draw_pictures(folder: Path) -> None:
    """The 60 pictures."""
    folder.mkdir()
    for number in range(NUM_PICTURES):
        Image.new("RGB", (4, 4), (number * 4, 255 - number * 4, number * 37 % 256)).save(folder / f"{number}.png")


def table(header: str, captions: Captions = THINGS, mark: str = ",", more: Sequence[str] = ()) -> str:
    rows = [f"{name}{mark}{text}" for name, texts in captions.items() for text in texts]
    return "\n".join([header, *rows, *more, ""])


def renamed(captions: Captions, old: str, new: str) -> Captions:
    return {name.replace(old, new): texts for name, texts in captions.items()}


def lines(rows: Sequence[Mapping[str, object]], between: str = "\n") -> str:
    return between.join(json.dumps(row) for row in rows) + "\n"


def rows_of(captions: Captions, **more: object) -> list[dict[str, object]]:
    return [{"image": name, "text": texts[0], **more} for name, texts in captions.items()]


def parquet_bytes(columns: Mapping[str, object]) -> bytes:
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.table(dict(columns)), sink)
    return sink.getvalue().to_pybytes()


ACCENTS: Captions = {name: (f"café {texts[0]}",) for name, texts in THINGS.items()}
FIVE: Captions = {name: tuple(f"caption {n} of {name}" for n in range(5)) for name in THINGS}
TWO: Captions = {name: (f"first of {name}", f"second of {name}") for name in THINGS}
VALUES = (
    "007",
    "1.50",
    "2021-05-01",
    "true",
    "NA",
    "null",
    "None",
    "nan",
    "N/A",
    "1e5",
    "00123",
    "12:30",
    "#N/A",
    "-",
    "NULL",
    "inf",
)
LITERAL: Captions = {f"img/{row}.png": (text,) for row, text in enumerate(VALUES)}
NUMBERS: Captions = {name: (f"{row:03d}",) for row, name in enumerate(THINGS)}
QUOTED: Captions = {**THINGS, "img/10.png": ('"Wow, said the caption',), "img/40.png": ('"Another one',)}
_BAD_BYTE = table("image,text").encode().replace(b"thing number 7\n", b"thing n\xe9 7\n")
_UTF8 = r"line 9, column 'text': byte 0xE9 is not UTF-8: .*--encoding, such as cp1252"

# Those of the first kinds that went wrong for people.
KNOWN = {
    "one bad byte": Case("t.csv", _BAD_BYTE, refused=_UTF8),
    "cp1252": Case(
        "t.csv",
        table("image,text", ACCENTS).encode("cp1252"),
        refused=r"line 2, column 'text': byte 0xE9 is not UTF-8: .*--encoding",
    ),
    "cp1252, said": Case(
        "t.csv", table("image,text", ACCENTS).encode("cp1252"), ACCENTS, options={"encoding": "cp1252"}
    ),
    "quotes in TSV": Case("t.tsv", table("image\ttext", QUOTED, "\t"), QUOTED),
    "quoted values": Case("t.csv", table("image,text", {n: (f'"{t[0]}"',) for n, t in LITERAL.items()}), LITERAL),
    "numbers": Case("t.csv", table("image,text", {n: (f'"{t[0]}"',) for n, t in NUMBERS.items()}), NUMBERS),
    "semicolons": Case("t.csv", table("image;text", mark=";"), THINGS),
    "pipes": Case(
        "t.csv",
        "image_name| comment_number| comment\n"
        + "".join(f"{name}| {n}| {text}\n" for name, texts in TWO.items() for n, text in enumerate(texts)),
        TWO,
    ),
    "blanks in the header": Case("t.csv", table("image, text"), THINGS),
    "capitals in the header": Case("t.csv", table("Image,Caption"), THINGS),
    "paths of Windows": Case("t.csv", table("image,text", renamed(THINGS, "/", "\\")), renamed(THINGS, "/", "\\")),
    "empty numbers of products": Case(
        "t.csv",
        table(
            "image,text,sku",
            {n: (f"{t[0]},{n[4:6] if i % 2 else ''}",) for i, (n, t) in enumerate(THINGS.items())},
        ),
        THINGS,
    ),
    "five captions": Case("t.csv", table("image,caption", FIVE), FIVE),
    "blank lines": Case("t.jsonl", lines(rows_of(THINGS), "\n\n"), THINGS),
    "a column of two kinds": Case(
        "t.jsonl",
        lines([{**row, "price": "on request" if i > 50 else i} for i, row in enumerate(rows_of(THINGS))]),
        THINGS,
    ),
}

# Others of the same kinds.
SIMILAR = {
    "UTF-16 with its mark": Case(
        "t.csv", table("image,text").encode("utf-16"), refused=r"line 1: .*--encoding, utf-16"
    ),
    "UTF-16, said": Case(
        "t.csv", table("image,text", ACCENTS).encode("utf-16"), ACCENTS, options={"encoding": "utf-16"}
    ),
    "UTF-8 with its mark": Case("t.csv", b"\xef\xbb\xbf" + table("image,text", ACCENTS).encode(), ACCENTS),
    "quoted header": Case("t.csv", table('"image","text"'), THINGS),
    "an unnamed last column": Case(
        "t.csv", table("image,text,", {n: (t[0] + ",",) for n, t in THINGS.items()}), THINGS
    ),
    "an unnamed first column": Case(
        "t.csv", table(",image,text", {f"7,{n}": t for n, t in THINGS.items()}), THINGS
    ),
    "two unnamed columns": Case(
        "t.csv", table("image,text,,", {n: (t[0] + ",,",) for n, t in THINGS.items()}), THINGS
    ),
    "a name twice": Case(
        "t.csv",
        table("image,text,text", {n: (t[0] + ",x",) for n, t in THINGS.items()}),
        refused="two columns are called 'text': rename one",
    ),
    "blank lines at the end": Case("t.csv", table("image,text", more=["", "", "   "][:2]), THINGS),
    "rows of delimiters at the end": Case(
        "t.csv",
        table("image,text", more=[",", ","]),
        THINGS,
        left_out={"line 62": "names no picture", "line 63": "names no picture"},
    ),
    "a header alone": Case("t.csv", "image,text\n", refused="t.csv: holds no row"),
    "nothing": Case("t.csv", "", refused="t.csv: is empty"),
    "no header": Case(
        "t.csv",
        table("img/0.png,thing number 0"),
        refused="the first line .* no names of columns, .*: add a line such as image,text above it",
    ),
    "no header, tabs": Case(
        "t.tsv",
        table("img/0.png\tthing number 0", mark="\t"),
        refused="the first line .* no names of columns, .*: add a line such as image<tab>text",
    ),
    "dots before paths": Case(
        "t.csv", table("image,text", renamed(THINGS, "img", "./img")), renamed(THINGS, "img", "./img")
    ),
    "a suffix in capitals": Case("T.CSV", table("image,text"), THINGS),
    "CSV called .txt": Case("t.txt", table("image,text"), refused="unknown kind of file: call it .csv, or .tsv"),
    "a sheet": Case("t.xlsx", b"PK\x03\x04", refused="unknown kind of file: save the sheet as .csv in UTF-8"),
    "compressed": Case("t.csv.gz", b"\x1f\x8b", refused="unknown kind of file: unpack it first"),
    "JSON Lines called .ndjson": Case("t.ndjson", lines(rows_of(THINGS)), THINGS),
    "JSON Lines called .json": Case("t.json", lines(rows_of(THINGS)), THINGS),
    "an array of JSON": Case("t.json", json.dumps(rows_of(THINGS), indent=1), THINGS),
    "another JSON": Case("t.json", json.dumps({"images": []}, indent=1), refused="t.json: line 1: no JSON"),
    "nested objects": Case("t.jsonl", lines(rows_of(THINGS, meta={"a": [1, {"b": None}]})), THINGS),
    "captions of null": Case(
        "t.jsonl",
        lines([*rows_of(THINGS), {"image": "img/0.png", "text": None}, {"image": "img/1.png"}]),
        THINGS,
        left_out={"line 61": NO_TEXT, "line 62": NO_TEXT},
    ),
    "captions 0 and false": Case(
        "t.jsonl",
        lines([{"image": "img/0.png", "text": 0}, {"image": "img/1.png", "text": False}]),
        {"img/0.png": ("0",), "img/1.png": ("false",)},
    ),
    "a caption of 100,000 characters": Case(
        "t.csv",
        table("image,text", {**THINGS, "img/3.png": ("x" * 100_000,)}),
        {**THINGS, "img/3.png": ("x" * 100_000,)},
    ),
    "one row": Case("t.csv", table("image,text", {"img/0.png": ("one",)}), {"img/0.png": ("one",)}),
    "pictures by number": Case(
        "t.parquet",
        parquet_bytes({"image": [1, 2], "text": ["a", "b"]}),
        refused="t.parquet: column 'image': pictures are paths or bytes, and it holds int64",
    ),
    "two captions columns": Case(
        "t.csv",
        table("image,title,text", {n: (f"a,{t[0]}",) for n, t in THINGS.items()}),
        refused="title and text could all be .*say --text-column title or --text-column text or "
        "--text-column title --text-column text",
        for_texts=True,
        pairs=THINGS,
    ),
    "a missing field": Case(
        "t.csv", table("image,text", more=["img/0.png"]), refused="line 62 has 1 fields, but the first line has 2"
    ),
    "an open quote": Case(
        "t.csv",
        table("image,text", {**THINGS, "img/3.png": ('"open',)}),
        refused="line 5: a quote opens a field and is not closed",
    ),
    "lists in Parquet": Case(
        "t.parquet", parquet_bytes({"image": list(TWO), "captions": [list(t) for t in TWO.values()]}), TWO
    ),
    "dictionaries in Parquet": Case(
        "t.parquet",
        parquet_bytes(
            {
                "image": pa.array(list(THINGS)).dictionary_encode(),
                "text": pa.array([t[0] for t in THINGS.values()]).dictionary_encode(),
            }
        ),
        THINGS,
    ),
    "a line for spreadsheets": Case("t.csv", "sep=;\n" + table("image;text", mark=";"), THINGS),
    "CSV called .tsv": Case(
        "t.tsv", table("image,text"), refused="is one column, 'image,text': .*or call the file .csv"
    ),
    "half an emoji": Case(
        "t.jsonl",
        lines([*rows_of(THINGS), {"image": "img/0.png", "text": "cut \ud83d"}]),
        THINGS,
        left_out={"line 61": "column 'text': half a surrogate pair, as of an emoji that was cut"},
    ),
    "half an emoji nobody asked for": Case(
        "t.jsonl", lines([{**row, "\ud83d": 1} for row in rows_of(THINGS)]), THINGS
    ),
    "nothing in JSON Lines": Case("t.jsonl", "\n", refused="t.jsonl: holds no row"),
    "nested without end": Case("t.jsonl", '{"image": ' + "[" * 100_000, refused="t.jsonl: line 1: no JSON"),
    "blanks for a picture": Case(
        "t.csv", table("image,text", more=["  ,x"]), THINGS, left_out={"line 62": "names no picture"}
    ),
}
