"""Which files are one sample by their names, and the columns of samples that need not have the same fields."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

Row: TypeAlias = dict[str, str | list[str | None] | None]


def split_key(name: str) -> tuple[str, str]:
    """A file's sample and its extension: WebDataset cuts at the first dot of the last part of the path."""
    folder, slash, last = name.rpartition("/")
    stem, _, extension = last.partition(".")
    return folder + slash + stem, extension.lower()


def column_arrays(rows: Sequence[Row]) -> dict[str, Any]:
    """The columns of rows that need not have the same fields; a missing one is null.

    A column of which some value is a list is one of lists of texts.
    """
    import pyarrow as pa

    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: [row.get(name) for row in rows] for name in names}
    return {
        name: _as_lists(values)
        if any(isinstance(value, list) for value in values)
        else pa.array(values, pa.string())
        for name, values in columns.items()
    }


def unified_schema(schemas: Sequence[Any]) -> Any:
    """One `pyarrow.Schema` for parts made by `column_arrays`, with the fields of all."""
    import pyarrow as pa
    from pyarrow import types

    fields: dict[str, Any] = {}
    for found in (kind for schema in schemas for kind in schema):
        if found.name not in fields or types.is_list(found.type):
            fields[found.name] = found.type
    return pa.schema(list(fields.items()))


def with_schema(table: Any, schema: Any) -> Any:
    """A part's table with the columns of all: a missing one null, a text a list of one where others are lists."""
    import pyarrow as pa
    from pyarrow import types

    columns = []
    for kind in schema:
        if kind.name not in table.column_names:
            columns.append(pa.nulls(table.num_rows, kind.type))
        elif types.is_list(kind.type) and not types.is_list(table.schema.field(kind.name).type):
            columns.append(_as_lists(table.column(kind.name).to_pylist()))
        else:
            columns.append(table.column(kind.name))
    return pa.table(columns, schema=schema)


def _as_lists(values: Sequence[Any]) -> Any:
    import pyarrow as pa

    lists = [value if value is None or isinstance(value, list) else [value] for value in values]
    return pa.array(lists, pa.list_(pa.string()))
