"""From a part's chunk to rows of one form: a picture's place, its texts, and the other columns. `n` rows.

The form is an Arrow batch with `image` (a path as it stands in the table, or a member's name), `bytes` where some
table holds pictures, `offset` and `size` where an archive does, `texts` (lists, none of them empty where texts are
needed), and the other columns, named with a colon before their own names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protoclip.contract.addresses import AddressError
from protoclip.contract.errors import DataError
from protoclip.contract.picture_folders import Skipped

from .arrow_texts import bytes_as_text, is_bytes, is_text
from .columns import as_text
from .files import resolved, text_to_name
from .part import IMAGE, OFFSET, SIZE, SPLIT, Chunk, Part
from .stores import NOT_FETCHED

NO_TEXT = "no text"
NO_PICTURE_NAMED = "names no picture"


@dataclass(frozen=True)
class Columns:
    """Which columns of the parts are read as what, and the `pyarrow.Schema` of the rows that come of them."""

    image: str
    texts: tuple[str, ...]
    others: tuple[str, ...]
    need_texts: bool
    schema: Any

    @property
    def read(self) -> list[str]:
        """All of them, each once."""
        return list(dict.fromkeys((self.image, *self.texts, *self.others)))


@dataclass(frozen=True)
class FormedRows:
    """The rows that are kept, where each stood in the chunk `[k]`, and the others with their reasons."""

    batch: Any
    kept: NDArray[np.int64]
    left_out: list[Skipped]


def form_rows(part: Part, chunk: Chunk, columns: Columns, first_row: int) -> FormedRows:
    """Brings a chunk into the one form; rows without a picture's name, or without a needed text, are left out.

    Args:
        first_row: the number of the chunk's first row in its part.

    Raises:
        DataError: a column of pictures that holds neither paths nor bytes.
    """
    import pyarrow as pa

    batch = chunk.batch
    names, stored = _images(part, batch.column(columns.image), columns.image)
    texts = _texts(_with_texts(part, chunk, columns.texts, first_row), columns.texts)
    reasons = (_without_text(texts) if columns.need_texts else {}) | _objections(names, stored) | chunk.refused
    kept = np.delete(np.arange(batch.num_rows), sorted(reasons))
    if reasons:
        where = pa.array(kept)
        batch, names, texts = batch.take(where), names.take(where), texts.take(where)
        stored = None if stored is None else stored.take(where)
    arrays = {"image": names, "texts": texts, "bytes": stored}
    if part.archive:
        arrays |= {"offset": batch.column(OFFSET), "size": batch.column(SIZE)}
    if part.split is not None:
        arrays[f":{SPLIT}"] = pa.array([part.split] * len(kept), pa.string())
    arrays = {f":{name}": batch.column(name) for name in columns.others if name in batch.schema.names} | arrays
    made = [_of_type(arrays.get(field.name), field.type, len(kept)) for field in columns.schema]
    left_out = [Skipped(_place(part, chunk, row, first_row), reason) for row, reason in sorted(reasons.items())]
    return FormedRows(pa.record_batch(made, columns.schema), kept, left_out)


def _images(part: Part, column: Any, name: str) -> tuple[Any, Any]:
    """The names and the bytes of the pictures, null where there are none; None where no bytes can be."""
    import pyarrow as pa
    from pyarrow import types

    kind = column.type
    if types.is_struct(kind) and {field.name for field in kind} & {"bytes", "path"}:
        values = column.to_pylist()
        names = pa.array([None if value is None else value.get("path") for value in values], pa.string())
        stored = pa.array([value.get("bytes") or None if value else None for value in values], pa.large_binary())
        return names, stored
    if is_text(kind) or types.is_null(kind):
        return column.cast(pa.string()), None
    if is_bytes(kind):
        stored = pa.array([value or None for value in column.to_pylist()], pa.large_binary())
        return pa.nulls(len(stored), pa.string()), stored
    raise no_pictures(part, name, kind)


def no_pictures(part: Part, name: str, kind: object) -> DataError:
    """The error of a column of pictures that holds something else."""
    return DataError(
        f"{part.name}: column {name!r}: pictures are paths or bytes, and it holds {kind}: write the paths alone, "
        "or name another column with data.image_column"
    )


def _with_texts(part: Part, chunk: Chunk, names: Sequence[str], first_row: int) -> Any:
    """The chunk's batch; columns of texts that hold bytes are decoded."""
    batch = chunk.batch
    for name in names:
        place = batch.schema.get_field_index(name)
        column = batch.column(place)
        texts = bytes_as_text(column, name, lambda row: _place(part, chunk, row, first_row))
        batch = batch if texts is column else batch.set_column(place, name, texts)
    return batch


def _texts(batch: Any, columns: Sequence[str]) -> Any:
    """[n] lists of texts: of all columns, blank ones and repetitions left out."""
    import pyarrow as pa
    from pyarrow import compute, types

    if len(columns) == 1 and types.is_string(batch.column(columns[0]).type):
        column = batch.column(columns[0])
        written = compute.not_equal(compute.utf8_trim_whitespace(column), "").fill_null(False)
        offsets = np.concatenate([[0], np.cumsum(written.to_numpy(zero_copy_only=False))]).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), column.filter(written))
    values = zip(*(batch.column(name).to_pylist() for name in columns), strict=True)
    lists = [_flat(row) for row in values] if columns else [[]] * batch.num_rows
    return pa.array(lists, pa.list_(pa.string()))


def _flat(values: Sequence[Any]) -> list[str]:
    flat: list[str] = []
    for value in values:
        parts = value if isinstance(value, list) else [value]
        flat += [text for part in parts if (text := as_text(part)).strip()]
    return list(dict.fromkeys(flat))


def _objections(names: Any, stored: Any) -> dict[int, str]:
    from pyarrow import compute

    unnamed = compute.equal(compute.utf8_trim_whitespace(names), "").fill_null(True)
    if stored is not None:
        unnamed = compute.and_(unnamed, stored.is_null())
    found = dict.fromkeys(np.flatnonzero(unnamed.to_numpy(zero_copy_only=False)).tolist(), NO_PICTURE_NAMED)
    with_colon = compute.match_substring(names, ":").fill_null(False)
    if stored is not None:
        with_colon = compute.and_(with_colon, stored.is_null())
    for row in np.flatnonzero(with_colon.to_numpy(zero_copy_only=False)).tolist():
        try:
            resolved(names[row].as_py())
        except AddressError as error:
            found[row] = NOT_FETCHED if NOT_FETCHED in str(error) else str(error)
    return found


def _without_text(texts: Any) -> dict[int, str]:
    lengths = texts.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    return dict.fromkeys(np.flatnonzero(lengths == 0).tolist(), NO_TEXT)


def _of_type(array: Any, kind: Any, count: int) -> Any:
    import pyarrow as pa
    from pyarrow import types

    if array is None:
        return pa.nulls(count, kind)
    if array.type == kind:
        return array
    if types.is_string(kind):
        values = array.to_pylist()
        return pa.array([None if value is None else as_text(value) for value in values], kind)
    return array.cast(kind)


def _place(part: Part, chunk: Chunk, row: int, first_row: int) -> str:
    if chunk.by_picture:
        name = text_to_name(str(chunk.batch.column(IMAGE)[row]))
        return f"{part.name}: {name}" if part.archive else f"{part.folder}/{name}"
    if chunk.lines is not None:
        return f"{part.name}: line {chunk.lines[row]}"
    return f"{part.name}: row {first_row + row}"
