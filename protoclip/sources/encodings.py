"""Text encodings of tables, and where a file breaks its own."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Sequence
from typing import IO

from protoclip.contract.errors import DataError

_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# How files begin that are no text, whatever they are called.
_NO_TEXT = {
    b"PAR1": "is Parquet: call it .parquet",
    b"ARROW1": "is Arrow: save it as .parquet",
    b"PK\x03\x04": "is a spreadsheet or another zip: save the sheet as .csv in UTF-8, or unpack it",
    b"\x1f\x8b": "is compressed by gzip: unpack it first",
    b"SQLite format 3": "is a database of SQLite: save the table as .csv or .parquet",
}


def check_encoding(encoding: str) -> None:
    """Raises DataError for a name that is no encoding."""
    try:
        codecs.lookup(encoding)
    except LookupError:
        raise DataError(
            f"data.encoding={encoding!r}: there is no such encoding: use one like utf-8 or cp1252"
        ) from None


def with_mark(encoding: str) -> str:
    """The encoding that passes over a byte-order mark."""
    return "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding


def first_bad_byte(name: str, raw: IO[bytes], encoding: str, delimiter: str | None, *, quoted: bool) -> str:
    """Says the first line of `raw` that can't be decoded, and the column where it is a table with a delimiter.

    Args:
        quoted: whether quotes may hold several lines.
    """
    names: list[str] = []
    in_quotes = False
    for number, line in enumerate(raw, start=1):
        kind = next((kind for mark, kind in _NO_TEXT.items() if number == 1 and line.startswith(mark)), None)
        if kind is not None:
            return f"{name}: {kind}"
        try:
            text = line.decode(encoding)
            if number == 1 and delimiter is not None:
                names = [field.strip() for field in text.lstrip("\ufeff").rstrip("\r\n").split(delimiter)]
        except UnicodeDecodeError as error:
            column = "" if in_quotes else _column_of(line[: error.start], delimiter, names)
            byte = line[error.start]
            guess = "utf-16, as its first bytes say" if line.startswith(_UTF16_MARKS) else "such as cp1252"
            return (
                f"{name}: line {number}{column}: byte 0x{byte:02X} is not {encoding.upper()}: name the file's "
                f"encoding with data.encoding, {guess}, or save it as UTF-8"
            )
        in_quotes ^= quoted and line.count(b'"') % 2 == 1
    return f"{name}: can't be decoded as {encoding}: name its encoding with data.encoding"


def _column_of(before: bytes, delimiter: str | None, names: Sequence[str]) -> str:
    if delimiter is None or not names:
        return ""
    try:
        fields = next(csv.reader([before.decode("latin-1")], delimiter=delimiter))
    except (csv.Error, StopIteration):
        return ""
    place = max(0, len(fields) - 1)
    return f", column {names[place]!r}" if place < len(names) else ""
