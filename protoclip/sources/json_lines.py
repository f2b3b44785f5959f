"""JSON Lines as Arrow tables: an object a line, empty lines passed over. A `.json` may be one array of them."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from protoclip.contract.errors import DataError
from protoclip.contract.picture_folders import Skipped

from .arrow_texts import NESTED
from .encodings import check_encoding, first_bad_byte, with_mark
from .files import DataFile
from .part import CHUNK_ROWS, Chunk

HALF_PAIR = "half a surrogate pair, as of an emoji that was cut"
_HALF_PAIR = re.compile("[\ud800-\udfff]")


@dataclass
class JsonLinesPart:
    """A column of which some value is a list is one of lists of texts; all others are texts.

    A number, a truth value and an object are written as JSON writes them; NaN and a missing field are null.
    Fields with objects or lists in lists are marked in the schema: these are no captions.
    """

    file: DataFile
    encoding: str = "utf-8"
    split: str | None = None
    archive: bool = False
    left_out: list[Skipped] = field(default_factory=list)
    pictures: tuple[DataFile, ...] = ()
    source: int = 0

    def __post_init__(self) -> None:
        check_encoding(self.encoding)
        self.name, self.folder = str(self.file), self.file.folder
        self._nested: set[str] = set()

    @property
    def num_bytes(self) -> int:
        """As `Part.num_bytes`."""
        return self.file.size

    @property
    def files(self) -> list[DataFile]:
        """As `Part.files`."""
        return [self.file]

    def schema(self) -> Any:
        """As `Part.schema`; reads the whole file once, since any line may bring a new field."""
        import pyarrow as pa

        kinds = {True: pa.list_(pa.string()), False: pa.string()}
        fields = [
            pa.field(name, kinds[is_list], metadata={NESTED: ""} if name in self._nested else None)
            for name, is_list in self._fields.items()
        ]
        return pa.schema(fields)

    def chunks(self, columns: list[str]) -> Iterator[Chunk]:
        """As `Part.chunks`; DataError where a byte is not of the encoding or a line is no JSON object."""
        import pyarrow as pa

        schema = pa.schema([self.schema().field(name) for name in columns])
        values: list[list[Any]] = [[] for _ in columns]
        lines: list[int] = []
        refused: dict[int, str] = {}
        for line, row in self._objects():
            found = [
                _listed(row.get(name)) if self._fields[name] else json_text(row.get(name)) for name in columns
            ]
            bad = next((name for name, value in zip(columns, found, strict=True) if has_half_pair(value)), None)
            if bad is not None:
                refused[len(lines)] = f"column {bad!r}: {HALF_PAIR}"
                found = [None] * len(columns)
            lines.append(line)
            for value, column in zip(found, values, strict=True):
                column.append(value)
            if len(lines) == CHUNK_ROWS:
                yield self._chunk(values, schema, lines, refused)
                values, lines, refused = [[] for _ in columns], [], {}
        if lines:
            yield self._chunk(values, schema, lines, refused)

    def _chunk(self, values: list[list[Any]], schema: Any, lines: list[int], refused: dict[int, str]) -> Chunk:
        import pyarrow as pa

        arrays = [pa.array(column, kind.type) for column, kind in zip(values, schema, strict=True)]
        return Chunk(pa.record_batch(arrays, schema), None if self._array is not None else lines, refused=refused)

    @cached_property
    def _fields(self) -> dict[str, bool]:
        """The names, and whether some value is a list."""
        found: dict[str, bool] = {}
        for _, row in self._objects():
            for name, value in row.items():
                # Such a name can be given by nobody.
                if not has_half_pair(name):
                    found[name] = found.get(name, False) or isinstance(value, list)
                    if _is_nested(value):
                        self._nested.add(name)
        if not found:
            raise DataError(f"{self.name}: holds no row")
        return found

    @cached_property
    def _array(self) -> list[Any] | None:
        """The objects of a file that is one array; None where it is of lines."""
        if self.file.suffix != ".json":
            return None
        try:
            with io.TextIOWrapper(self.file.open(), encoding=with_mark(self.encoding)) as stream:
                start = stream.read(1)
                while start.isspace():
                    start = stream.read(1)
                return self._read_array(start + stream.read()) if start == "[" else None
        except UnicodeDecodeError:
            # The lines, which are read then, have it too.
            return None

    def _read_array(self, text: str) -> list[Any]:
        try:
            found: list[Any] = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{self.name}: no JSON: {error}") from error
        other = next((row for row, value in enumerate(found) if not isinstance(value, dict)), None)
        if other is not None:
            raise DataError(f"{self.name}: row {other}: no JSON object but {type(found[other]).__name__}")
        return found

    def _objects(self) -> Iterator[tuple[int, dict[str, Any]]]:
        if self._array is not None:
            yield from enumerate(self._array)
            return
        try:
            with io.TextIOWrapper(self.file.open(), encoding=with_mark(self.encoding)) as stream:
                for number, line in enumerate(stream, start=1):
                    if line.strip():
                        yield number, self._object(number, line)
        except UnicodeDecodeError:
            with self.file.open() as raw:
                raise DataError(first_bad_byte(self.name, raw, self.encoding, None, quoted=False)) from None
        except OSError as error:
            raise DataError(f"{self.name}: can't be read: {error.strerror or error}") from error

    def _object(self, number: int, line: str) -> dict[str, Any]:
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            array = ", or one array of them" if self.file.suffix == ".json" else ""
            raise DataError(
                f"{self.name}: line {number}: no JSON: {error}: give an object a line{array}"
            ) from error
        if not isinstance(found, dict):
            raise DataError(f"{self.name}: line {number}: no JSON object but {type(found).__name__}")
        return found


def has_half_pair(value: str | list[str | None] | None) -> bool:
    """Whether a text, or one of several, has half a surrogate pair, as of an emoji that was cut."""
    if isinstance(value, list):
        return any(map(has_half_pair, value))
    return value is not None and not value.isascii() and _HALF_PAIR.search(value) is not None


def json_text(value: Any) -> str | None:
    """A value of JSON as text: a string as it is, NaN as a missing one, anything else as JSON writes it."""
    if value is None or isinstance(value, str):
        return value
    # Python writes a missing number of pandas so.
    if value != value:
        return None
    return json.dumps(value, ensure_ascii=False)


def _is_nested(value: Any) -> bool:
    return isinstance(value, dict) or (
        isinstance(value, list) and any(isinstance(part, dict | list) for part in value)
    )


def _listed(value: Any) -> list[str | None] | None:
    if value is None:
        return None
    return [json_text(part) for part in value] if isinstance(value, list) else [json_text(value)]
