"""Columns of Arrow as texts: bytes that must be UTF-8, and times that Python can't hold. `n` rows.

All but `plain_type` and `plain` take columns without dictionaries and views.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from protoclip.contract.errors import DataError

from .columns import as_text

NESTED = b"nested"


def is_text(kind: Any) -> bool:
    """Whether values of an Arrow type are texts."""
    from pyarrow import types

    return bool(types.is_string(kind) or types.is_large_string(kind))


def is_bytes(kind: Any) -> bool:
    """Whether values of an Arrow type are bytes."""
    from pyarrow import types

    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def plain_type(kind: Any) -> Any:
    """An Arrow type without dictionaries and views, which many of Arrow's functions don't take."""
    import pyarrow as pa
    from pyarrow import types

    if types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if types.is_string_view(kind):
        return pa.string()
    if types.is_binary_view(kind):
        return pa.large_binary()
    if is_list(kind) and plain_type(kind.value_type) != kind.value_type:
        return pa.list_(plain_type(kind.value_type))
    return kind


def plain(column: Any) -> Any:
    """[n] the same values in an Arrow array of `plain_type`."""
    from pyarrow import types

    if types.is_dictionary(column.type):
        return plain(column.dictionary).take(column.indices)
    wanted = plain_type(column.type)
    return column if wanted == column.type else column.cast(wanted)


def is_list(kind: Any) -> bool:
    """Whether values of an Arrow type are lists, all of one length or not."""
    from pyarrow import types

    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def is_single_value(kind: Any) -> bool:
    """Whether values of an Arrow type are one text, number, truth value or time."""
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


def in_nanoseconds(kind: Any) -> bool:
    """Whether values of an Arrow type are times that Python's own types round."""
    from pyarrow import types

    has_unit = types.is_timestamp(kind) or types.is_duration(kind) or types.is_time64(kind)
    return bool(has_unit and kind.unit == "ns")


def times_as_text(column: Any) -> Any:
    """[n] texts of an Arrow array of times: as Python writes them, down to the nanosecond where it can't."""
    import pyarrow as pa

    return pa.array([_time_as_text(value) for value in column], pa.string())


def _time_as_text(value: Any) -> str | None:
    import pyarrow as pa

    try:
        found = value.as_py()
    except ValueError:
        return str(value.cast(pa.string()).as_py())
    return None if found is None else as_text(found)
