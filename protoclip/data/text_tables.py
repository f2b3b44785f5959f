"""CSV, TSV and JSON Lines as Arrow tables in which every value is the text that stands in the file.

CSV is quoted as RFC 4180 says; TSV has no quoting, and a `"` is part of its field. Nothing is guessed of a value:
`007`, `NA`, `false` and an empty field stay what they are.
"""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from protoclip.contract.errors import DataError

DELIMITERS = (",", ";", "\t", "|")
_CHUNK_ROWS = 50_000
_FIELD_CHARACTERS = 2**24


def read_delimited(path: Path, encoding: str = "utf-8", delimiter: str | None = None) -> Any:
    """The table of a CSV or TSV file: string columns, named by its first line. A byte-order mark is skipped.

    Blanks around names are cut off, and where names had some, around all fields.

    Args:
        delimiter: None: a tab in a `.tsv`, else the one of `,`, `;`, tab and `|` that the first line has.

    Raises:
        DataError: the file can't be read, a byte is not of the encoding, the delimiter can't be told, a quote is
            not closed, a row has another number of fields than the first line, or two columns have one name. Names
            the line.
    """
    import pyarrow as pa

    _check_encoding(encoding)
    try:
        with path.open(encoding=_with_mark(encoding), newline="") as stream:
            records = _records(path, stream, delimiter)
            first = next(records, None)
            if first is None:
                raise DataError(f"{path}: is empty")
            names = [name.strip() for name in first[1]]
            _check_names(path, names)
            strip = names != first[1]
            schema = pa.schema([(name, pa.string()) for name in names])
            rows = (_fields(path, line, fields, names, strip=strip) for line, fields in records)
            return pa.Table.from_batches(_batches(rows, schema), schema)
    except UnicodeDecodeError:
        raise DataError(_bad_byte(path, encoding, delimiter)) from None
    except OSError as error:
        raise DataError(f"{path}: can't be read: {error.strerror or error}") from error


def read_json_lines(path: Path, encoding: str = "utf-8") -> Any:
    """The table of a file with a JSON object a line; empty lines are passed over.

    A column of which some value is a list is one of lists of texts; all others are texts. A number or a truth
    value is written as JSON writes it, null and a missing field are null.

    Raises:
        DataError: the file can't be read, a byte is not of the encoding, or a line is no JSON object. Names the
            line.
    """
    import pyarrow as pa

    _check_encoding(encoding)
    try:
        with path.open(encoding=_with_mark(encoding)) as stream:
            rows = [_object(path, number, line) for number, line in enumerate(stream, start=1) if line.strip()]
    except UnicodeDecodeError:
        raise DataError(_bad_byte(path, encoding, None)) from None
    except OSError as error:
        raise DataError(f"{path}: can't be read: {error.strerror or error}") from error
    names = list(dict.fromkeys(name for row in rows for name in row))
    return pa.table({name: _column([row.get(name) for row in rows]) for name in names})


def _records(path: Path, stream: IO[str], delimiter: str | None) -> Iterator[tuple[int, list[str]]]:
    """Each record's first line, from 1, and its fields; empty lines are passed over."""
    header = stream.readline()
    delimiter = delimiter or _delimiter(path, header)
    stream.seek(0)
    if path.suffix.lower() == ".tsv":
        for number, text in enumerate(stream, start=1):
            if text.strip("\r\n"):
                yield number, text.rstrip("\r\n").split(delimiter)
        return
    csv.field_size_limit(_FIELD_CHARACTERS)
    reader = csv.reader(stream, delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(
                f"{path}: line {line}: a quote opens a field and is not closed as RFC 4180 asks ({error}): write "
                'a field with quotes as "a ""quoted"" word", or use a .tsv, which has no quoting'
            ) from error
        if fields:
            yield line, fields


def _delimiter(path: Path, header: str) -> str:
    if path.suffix.lower() == ".tsv":
        return "\t"
    found = [mark for mark in DELIMITERS if mark in header]
    if len(found) > 1:
        shown = " and ".join(repr(mark) for mark in found)
        raise DataError(f"{path}: the first line has {shown}: say which parts the fields with data.delimiter")
    return found[0] if found else ","


def _check_names(path: Path, names: Sequence[str]) -> None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{path}: two columns are called {twice!r}: rename one of them")


def _fields(path: Path, line: int, fields: list[str], names: Sequence[str], *, strip: bool) -> list[str]:
    if len(fields) != len(names):
        is_tsv = path.suffix.lower() == ".tsv"
        way_out = "a .tsv has no quoting" if is_tsv else "put fields that hold the delimiter in quotes"
        raise DataError(
            f"{path}: line {line} has {len(fields)} fields, but the first line has {len(names)}: {way_out}, or "
            "name another delimiter with data.delimiter"
        )
    return [field.strip() for field in fields] if strip else fields


def _batches(rows: Iterable[list[str]], schema: Any) -> Iterator[Any]:
    import pyarrow as pa

    chunk: list[list[str]] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == _CHUNK_ROWS:
            yield pa.record_batch([pa.array(column, pa.string()) for column in zip(*chunk, strict=True)], schema)
            chunk = []
    if chunk:
        yield pa.record_batch([pa.array(column, pa.string()) for column in zip(*chunk, strict=True)], schema)


def _object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError as error:
        raise DataError(f"{path}: line {number}: no JSON: {error}") from error
    if not isinstance(found, dict):
        raise DataError(f"{path}: line {number}: no JSON object but {type(found).__name__}")
    return found


def _column(values: list[Any]) -> Any:
    import pyarrow as pa

    if any(isinstance(value, list) for value in values):
        lists = [None if value is None else value if isinstance(value, list) else [value] for value in values]
        texts = [None if parts is None else [_text(part) for part in parts] for parts in lists]
        return pa.array(texts, pa.list_(pa.string()))
    return pa.array([_text(value) for value in values], pa.string())


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _check_encoding(encoding: str) -> None:
    try:
        codecs.lookup(encoding)
    except LookupError:
        raise DataError(
            f"data.encoding={encoding!r}: there is no such encoding: use one like utf-8 or cp1252"
        ) from None


def _with_mark(encoding: str) -> str:
    return "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding


def _bad_byte(path: Path, encoding: str, delimiter: str | None) -> str:
    """The first line that can't be decoded, with its column where the file is a table."""
    with path.open("rb") as stream:
        names: list[str] = []
        in_quotes = False
        for number, line in enumerate(stream, start=1):
            try:
                text = line.decode(encoding)
                if number == 1 and path.suffix.lower() != ".jsonl":
                    delimiter = delimiter or _delimiter(path, text)
                    names = [name.strip() for name in text.lstrip("\ufeff").rstrip("\r\n").split(delimiter)]
            except UnicodeDecodeError as error:
                column = "" if in_quotes else _column_of(line[: error.start], delimiter, names)
                byte = line[error.start]
                return (
                    f"{path}: line {number}{column}: byte 0x{byte:02X} is not {encoding.upper()}: name the file's "
                    "encoding with data.encoding, such as cp1252, or save it as UTF-8"
                )
            in_quotes ^= path.suffix.lower() == ".csv" and line.count(b'"') % 2 == 1
    return f"{path}: can't be decoded as {encoding}: name its encoding with data.encoding"


def _column_of(before: bytes, delimiter: str | None, names: Sequence[str]) -> str:
    if delimiter is None or not names:
        return ""
    try:
        fields = next(csv.reader([before.decode("latin-1")], delimiter=delimiter))
    except (csv.Error, StopIteration):
        return ""
    place = max(0, len(fields) - 1)
    return f", column {names[place]!r}" if place < len(names) else ""
