"""Columns of Arrow as texts: bytes that must be UTF-8, and times, which Python can't always hold. `n` rows.

All but `plain_type` and `plain` take columns of a `plain_type`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from protoclip.contract.errors import DataError

from .columns import as_text

NESTED = b"nested"
_UUID = "arrow.uuid"
_OUT_OF_RANGE = "<value out of range"


def is_text(kind: Any) -> bool:
    """Whether values of an Arrow type are texts."""
    from pyarrow import types

    return bool(types.is_string(kind) or types.is_large_string(kind))


def is_bytes(kind: Any) -> bool:
    """Whether values of an Arrow type are bytes."""
    from pyarrow import types

    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def plain_type(kind: Any) -> Any:
    """The type of a column after `plain`: no dictionary, view, time or extension, which few functions take."""
    import pyarrow as pa
    from pyarrow import types

    if types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        return pa.string() if kind.extension_name == _UUID else plain_type(kind.storage_type)
    if types.is_string_view(kind) or types.is_temporal(kind):
        return pa.string()
    if types.is_binary_view(kind):
        return pa.large_binary()
    if is_list(kind) and (_is_view(kind) or plain_type(kind.value_type) != kind.value_type):
        return pa.list_(plain_type(kind.value_type))
    return kind


def plain(column: Any) -> Any:
    """[n] the same values in an Arrow array of `plain_type`; times and UUIDs as Python writes them."""
    import pyarrow as pa
    from pyarrow import types

    kind = column.type
    if types.is_dictionary(kind):
        return plain(column.dictionary).take(column.indices)
    if isinstance(kind, pa.BaseExtensionType):
        return _as_texts(column) if kind.extension_name == _UUID else plain(column.storage)
    if types.is_temporal(kind):
        return _as_texts(column)
    wanted = plain_type(kind)
    if wanted == kind:
        return column
    return _plain_lists(column) if is_list(kind) else column.cast(wanted)


def _plain_lists(column: Any) -> Any:
    """Cast by hand: Arrow's cast from lists of views gives empty lists."""
    import pyarrow as pa

    lengths = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), plain(column.flatten()), mask=column.is_null())


def _is_view(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_list_view(kind) or types.is_large_list_view(kind))


def is_list(kind: Any) -> bool:
    """Whether values of an Arrow type are lists, all of one length or not."""
    from pyarrow import types

    known = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return bool(known) or _is_view(kind)


def is_single_value(kind: Any) -> bool:
    """Whether values of an Arrow type are one text, number or truth value."""
    from pyarrow import types

    return is_text(kind) or bool(types.is_primitive(kind) or types.is_null(kind) or types.is_decimal(kind))


def can_be_captions(field: Any) -> bool:
    """Whether a `pyarrow.Field` holds a text a row or a list of them; bytes are texts in UTF-8."""
    kind = field.type.value_type if is_list(field.type) else field.type
    return NESTED not in (field.metadata or {}) and (is_single_value(kind) or is_bytes(kind))


def bytes_as_text(column: Any, name: str, place: Callable[[int], str]) -> Any:
    """[n] texts of an Arrow array of bytes or of lists of bytes; any other one as it is.

    Args:
        place: names a row.

    Raises:
        DataError: a row is not UTF-8.
    """
    import pyarrow as pa

    kind = column.type
    if not is_bytes(kind.value_type if is_list(kind) else kind):
        return column
    wanted = pa.list_(pa.string()) if is_list(kind) else pa.string()
    return _checked(column, lambda array: array.cast(wanted), name, place)


def check_utf8(column: Any, name: str, place: Callable[[int], str]) -> None:
    """Raises DataError where a text of an Arrow array is not UTF-8, which some writers of Parquet don't check."""

    def check(array: Any) -> Any:
        array.validate(full=True)

    _checked(column, check, name, place)


def _checked(column: Any, convert: Callable[[Any], Any], name: str, place: Callable[[int], str]) -> Any:
    import pyarrow as pa

    try:
        return convert(column)
    except pa.ArrowInvalid:
        for row in range(len(column)):
            try:
                # A slice of lists would still have the texts of all rows.
                convert(column.take(pa.array([row])))
            except pa.ArrowInvalid as error:
                raise DataError(
                    f"{place(row)}: column {name!r}: a text that is not UTF-8: write the table with texts in UTF-8"
                ) from error
        raise


def _as_texts(column: Any) -> Any:
    """[n] texts of an Arrow array, null where a value is."""
    import pyarrow as pa

    try:
        values = column.to_pylist()
    except (ValueError, OverflowError):
        return pa.array([_as_text(value) for value in column], pa.string())
    return pa.array([None if value is None else as_text(value) for value in values], pa.string())


def _as_text(value: Any) -> str | None:
    try:
        found = value.as_py()
    except (ValueError, OverflowError):
        return _time_beyond_python(value)
    return None if found is None else as_text(found)


def _time_beyond_python(value: Any) -> str:
    """To the nanosecond, of any year, and in UTC where the time zone is not known here."""
    import pyarrow as pa
    from pyarrow import types

    try:
        text = str(value.cast(pa.string()).as_py())
    except pa.ArrowInvalid:
        text = _OUT_OF_RANGE
    if not text.startswith(_OUT_OF_RANGE):
        return text
    kind = value.type
    if types.is_timestamp(kind):
        zone = "" if kind.tz is None else "Z"
        return str(np.datetime64(value.value, kind.unit)).replace("T", " ") + zone
    if types.is_date(kind):
        return str(np.datetime64(value.value, "D" if types.is_date32(kind) else "ms").astype("datetime64[D]"))
    return str(value.value)
