"""CSV and TSV as Arrow tables in which every value is the text that stands in the file.

CSV is quoted as RFC 4180 says; TSV has no quoting, and a `"` is part of its field. Nothing is guessed of a value:
`007`, `NA`, `false` and an empty field stay what they are.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from protoclip.contract.errors import DataError
from protoclip.contract.picture_folders import ALL_EXTENSIONS, Skipped

from .encodings import check_encoding, first_bad_byte, with_mark
from .files import DataFile
from .part import CHUNK_ROWS, Chunk

DELIMITERS = (",", ";", "\t", "|")
_FIELD_CHARACTERS = 2**24
# The line above the names by which spreadsheets are told the delimiter.
_SEPARATOR = re.compile(r'"?sep=(.)"?', re.IGNORECASE)


@dataclass
class DelimitedPart:
    """A CSV or TSV file: string columns, named by its first line. A byte-order mark is skipped.

    Blanks around names are cut off, and where names had some, around all fields. A column without a name is called
    by its place, `column 3`.

    Args:
        delimiter: None: a tab in a `.tsv`, else the one of `,`, `;`, tab and `|` that the first line has.
    """

    file: DataFile
    encoding: str = "utf-8"
    delimiter: str | None = None
    split: str | None = None
    archive: bool = False
    left_out: list[Skipped] = field(default_factory=list)
    pictures: tuple[DataFile, ...] = ()
    source: int = 0

    def __post_init__(self) -> None:
        check_encoding(self.encoding)
        self.name, self.folder = str(self.file), self.file.folder
        self._is_tsv = self.file.suffix == ".tsv"

    @property
    def num_bytes(self) -> int:
        """As `Part.num_bytes`."""
        return self.file.size

    @property
    def files(self) -> list[DataFile]:
        """As `Part.files`."""
        return [self.file]

    def schema(self) -> Any:
        """String columns.

        Raises:
            DataError: the file can't be read or is empty, a byte is not of the encoding, the delimiter can't be
                told,
                two columns have one name, or the first line has a picture's path instead of names.
        """
        import pyarrow as pa

        for names, _ in self._read():
            return pa.schema([(name, pa.string()) for name in names])
        raise AssertionError("the names come first")

    def chunks(self, columns: list[str]) -> Iterator[Chunk]:
        """As `Part.chunks`.

        Raises:
            DataError: as `schema`, a quote is not closed, or a row has another number of fields than the first
                line.
        """
        import pyarrow as pa

        for names, chunk in self._read():
            if chunk is None:
                places = [names.index(name) for name in columns]
                schema = pa.schema([(name, pa.string()) for name in columns])
                continue
            rows, lines = chunk
            fields = list(zip(*rows, strict=True))
            yield Chunk(pa.record_batch([pa.array(fields[place], pa.string()) for place in places], schema), lines)

    def _read(self) -> Iterator[tuple[list[str], tuple[list[list[str]], list[int]] | None]]:
        """The names, first alone and then with rows and the lines at which these begin."""
        try:
            stream = io.TextIOWrapper(self.file.open(), encoding=with_mark(self.encoding), newline="")
            with stream:
                records = self._records(stream)
                first = next(records, None)
                if first is None:
                    raise DataError(f"{self.name}: is empty")
                names = [name.strip() or f"column {place}" for place, name in enumerate(first[0], start=1)]
                self._check_names(names)
                yield names, None
                blanks = any(name != name.strip() for name in first[0])
                yield from self._chunks(records, names, strip=blanks)
        except UnicodeDecodeError:
            with self.file.open() as raw:
                raise DataError(self._bad_byte(raw)) from None
        except OSError as error:
            raise DataError(f"{self.name}: can't be read: {error.strerror or error}") from error

    def _chunks(
        self, records: Iterator[tuple[list[str], int]], names: list[str], *, strip: bool
    ) -> Iterator[tuple[list[str], tuple[list[list[str]], list[int]]]]:
        rows: list[list[str]] = []
        lines: list[int] = []
        for fields, line in records:
            if len(fields) == 1 < len(names) and not fields[0].strip():
                continue
            if len(fields) != len(names):
                raise DataError(self._wrong_number(line, len(fields), len(names)))
            rows.append([part.strip() for part in fields] if strip else fields)
            lines.append(line)
            if len(rows) == CHUNK_ROWS:
                yield names, (rows, lines)
                rows, lines = [], []
        if rows:
            yield names, (rows, lines)

    def _records(self, stream: io.TextIOWrapper) -> Iterator[tuple[list[str], int]]:
        """Each record's fields and its first line, from 1; empty lines are passed over."""
        header, above = stream.readline(), 0
        said = _SEPARATOR.fullmatch(header.strip())
        if said and not self._is_tsv:
            header, above = stream.readline(), 1
        delimiter = self.delimiter or (said[1] if above and said else self._found_delimiter(header))
        if self._is_tsv:
            yield from _unquoted(header, stream, delimiter)
            return
        csv.field_size_limit(_FIELD_CHARACTERS)
        reader = csv.reader(_again(header, stream), delimiter=delimiter, strict=True)
        line = above + 1
        try:
            for fields in reader:
                if fields:
                    yield fields, line
                line = above + reader.line_num + 1
        except csv.Error as error:
            raise DataError(
                f"{self.name}: line {line}: a quote opens a field and is not closed as RFC 4180 asks ({error}): "
                'write a field with quotes as "a ""quoted"" word", or use a .tsv, which has no quoting'
            ) from error

    def _found_delimiter(self, header: str) -> str:
        if self._is_tsv:
            return "\t"
        found = [mark for mark in DELIMITERS if mark in header]
        if len(found) > 1:
            shown = " and ".join(repr(mark) for mark in found)
            raise DataError(
                f"{self.name}: the first line has {shown}: say which parts the fields with data.delimiter"
            )
        return found[0] if found else ","

    def _check_names(self, names: Sequence[str]) -> None:
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise DataError(f"{self.name}: two columns are called {twice!r}: rename one of them")
        if any("\0" in name for name in names):
            raise DataError(
                f"{self.name}: the first line has bytes of 0, as UTF-16 has them: name the file's encoding with "
                "data.encoding, such as utf-16-le, or save it as UTF-8"
            )
        if names[0].startswith(("{", "[")):
            raise DataError(f"{self.name}: is JSON: call it .jsonl, or .json where it is one array")
        if len(names) == 1 and any(mark in names[0] for mark in DELIMITERS):
            raise DataError(
                f"{self.name}: the first line is one column, {names[0]!r}: name its delimiter with data.delimiter"
                + (", or call the file .csv" if self._is_tsv else "")
            )
        picture = next((name for name in names if PurePosixPath(name).suffix.lower() in ALL_EXTENSIONS), None)
        if picture is not None:
            names_line = "image<tab>text" if self._is_tsv else "image,text"
            raise DataError(
                f"{self.name}: the first line has {picture!r} and no names of columns, as it must: add a line "
                f"such as {names_line} above it"
            )

    def _wrong_number(self, line: int, found: int, expected: int) -> str:
        way_out = "a .tsv has no quoting" if self._is_tsv else "put fields that hold the delimiter in quotes"
        return (
            f"{self.name}: line {line} has {found} fields, but the first line has {expected}: {way_out}, or "
            "name another delimiter with data.delimiter"
        )

    def _bad_byte(self, raw: Any) -> str:
        header = raw.readline().decode(self.encoding, "replace")
        raw.seek(0)
        found = [mark for mark in DELIMITERS if mark in header]
        own = None if len(found) > 1 or _SEPARATOR.match(header) else [*found, ","][0]
        delimiter = self.delimiter or ("\t" if self._is_tsv else own)
        return first_bad_byte(self.name, raw, self.encoding, delimiter, quoted=not self._is_tsv)


def _again(header: str, stream: io.TextIOWrapper) -> Iterator[str]:
    yield header
    yield from stream


def _unquoted(header: str, stream: io.TextIOWrapper, delimiter: str) -> Iterator[tuple[list[str], int]]:
    for number, text in enumerate(_again(header, stream), start=1):
        stripped = text.rstrip("\r\n")
        if stripped:
            yield stripped.split(delimiter), number
