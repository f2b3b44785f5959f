"""Conditions on metadata as PostgreSQL's SQL over the column `fields`, with bound values.

`fields` (JSONB) says by name what each value of the metadata counts as: {"price": {"text": "49", "number": 49}}.
So a comparison is of texts with texts, by the bytes of UTF-8, or of numbers with numbers, without rounding.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from protoclip.search.conditions import Compared, Condition, Value, by_halves

from .comparable import Comparable, comparable_fields, exact_number

Statement: TypeAlias = tuple[str, list[Any]]
_SIGNS = {"lt": "<", "le": "<=", "gt": ">", "ge": ">="}


def fields_json(metadata: Mapping[str, Any]) -> str:
    """The column `fields` of an entry."""
    return _json({name: _kinds(value) for name, value in comparable_fields(metadata).items()})


def statement_of(condition: Condition) -> Statement:
    """SQL that holds or not, and is never null, for a row; and its values."""
    if isinstance(condition, Compared):
        return _compared(condition)
    return _joined(condition.how, [statement_of(part) for part in condition.parts])


def _kinds(value: Comparable) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if value.text is not None:
        found["text"] = value.text
    if value.number is not None:
        found["number"] = exact_number(value.number)
    if value.flag is not None:
        found["flag"] = value.flag
    if value.null:
        found["null"] = True
    return found


def _joined(how: str, parts: Sequence[Statement]) -> Statement:
    if not parts:
        return ("true" if how == "and" else "false"), []
    return by_halves(parts, lambda left, right: (f"({left[0]} {how.upper()} {right[0]})", [*left[1], *right[1]]))


def _compared(condition: Compared) -> Statement:
    name, value = condition.name, condition.value
    if condition.operator == "in":
        assert isinstance(value, tuple)
        return _one_of(name, value)
    assert not isinstance(value, tuple)
    if condition.operator == "exists":
        null, values = _equal(name, None)
        sql = f"(fields ? %s AND NOT {null})"
        return (sql if value else f"NOT {sql}"), [name, *values]
    if condition.operator in _SIGNS:
        return _ordered(name, _SIGNS[condition.operator], value)
    sql, values = _equal(name, value)
    return (f"NOT {sql}" if condition.operator == "ne" else sql), values


def _equal(name: str, value: Value) -> Statement:
    """Containment, which an index on `fields` answers."""
    return "(fields @> %s::jsonb)", [_json({name: {_kind(value): _plain(value)}})]


def _one_of(name: str, values: Sequence[Value]) -> Statement:
    texts = [one for one in values if isinstance(one, str)]
    numbers = [str(_plain(one)) for one in values if one is not None and not isinstance(one, str | bool)]
    plain = [one for one in values if one is None or isinstance(one, bool)]
    parts = [_equal(name, one) for one in dict.fromkeys(plain)]
    if texts:
        parts.append((_known("(fields -> %s ->> 'text') = ANY(%s::text[])"), [name, texts]))
    if numbers:
        parts.append((_known("(fields -> %s ->> 'number')::numeric = ANY(%s::numeric[])"), [name, numbers]))
    return _joined("or", parts)


def _ordered(name: str, sign: str, value: Value) -> Statement:
    if isinstance(value, str):
        return _known(f"(fields -> %s ->> 'text') COLLATE \"C\" {sign} %s"), [name, value]
    return _known(f"(fields -> %s ->> 'number')::numeric {sign} %s::numeric"), [name, str(_plain(value))]


def _known(sql: str) -> str:
    """What is null where a field has no such value does not hold."""
    return f"coalesce({sql}, false)"


def _kind(value: Value) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "flag"
    return "text" if isinstance(value, str) else "number"


def _plain(value: Value) -> Any:
    if value is None:
        return True
    return value if isinstance(value, bool | str) else exact_number(value)


def _json(found: Mapping[str, Any]) -> str:
    return json.dumps(found, ensure_ascii=False, allow_nan=False)
