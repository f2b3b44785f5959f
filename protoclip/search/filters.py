"""Conditions on metadata as SQLite's SQL, with bound values: no name and no value becomes part of a statement."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypeAlias

from .conditions import Compared, Condition, Value, Where, by_halves, parse

Statement: TypeAlias = tuple[str, list[Any]]

# Where nothing is asked of an entry.
ALL: Statement = ("1", [])
_SIGNS = {"lt": "<", "le": "<=", "gt": ">", "ge": ">="}
# Columns of a CSV are texts: one that is written like a number counts as one. json_type fails on what is no JSON.
_NUMBER = (
    "CASE field.type WHEN 'integer' THEN field.value WHEN 'real' THEN field.value WHEN 'text' THEN "
    "CASE WHEN json_valid(field.value) THEN CASE WHEN json_type(field.value) IN ('integer', 'real') THEN "
    "json_extract(field.value, '$') END END END"
)
_TEXT = "field.type = 'text'"
_LISTED = "(SELECT value FROM json_each(?))"


def condition_of(where: Where) -> Statement:
    """A condition on a row of the table `entries`, and its values; errors as `parse`."""
    return _statement(parse(where))


def _statement(condition: Condition) -> Statement:
    if isinstance(condition, Compared):
        return _compared(condition)
    return _joined(condition.how, [_statement(part) for part in condition.parts])


def _joined(how: str, parts: Sequence[Statement]) -> Statement:
    if not parts:
        return ALL if how == "and" else ("0", [])
    return by_halves(parts, lambda left, right: (f"({left[0]} {how.upper()} {right[0]})", [*left[1], *right[1]]))


def _compared(condition: Compared) -> Statement:
    name, value = condition.name, condition.value
    if condition.operator == "in":
        assert isinstance(value, tuple)
        return _any_value(name, _one_of(value))
    assert not isinstance(value, tuple)
    if condition.operator == "exists":
        return _any_value(name, ("field.type != 'null'", []), negated=not value)
    if condition.operator in _SIGNS:
        return _any_value(name, _ordered(_SIGNS[condition.operator], value))
    return _any_value(name, _equal(value), negated=condition.operator == "ne")


def _any_value(name: str, condition: Statement, *, negated: bool = False) -> Statement:
    sql, values = condition
    field = f"EXISTS (SELECT 1 FROM json_each(entries.metadata) AS field WHERE field.key = ? AND {sql})"
    return f"NOT {field}" if negated else field, [name, *values]


def _equal(value: Value) -> Statement:
    if value is None:
        return "field.type = 'null'", []
    if isinstance(value, bool):
        written = "true" if value else "false"
        return f"(field.type = ? OR ({_TEXT} AND field.value = ?))", [written, written]
    if isinstance(value, str):
        return f"({_TEXT} AND field.value = ?)", [value]
    return f"{_NUMBER} = ?", [value]


def _one_of(values: Sequence[Value]) -> Statement:
    """Equal to one of any number of values, which are one bound value for each type."""
    texts = [one for one in values if isinstance(one, str)]
    plain = [one for one in values if one is None or isinstance(one, bool)]
    numbers = [one for one in values if one is not None and not isinstance(one, str | bool)]
    parts = [_equal(one) for one in dict.fromkeys(plain)]
    if texts:
        parts.append((f"({_TEXT} AND field.value IN {_LISTED})", [json.dumps(texts)]))
    if numbers:
        # JSON has no infinity; SQLite reads a number that is too large as one.
        parts.append((f"{_NUMBER} IN {_LISTED}", [json.dumps(numbers).replace("Infinity", "9e999")]))
    return _joined("or", parts)


def _ordered(sign: str, value: Value) -> Statement:
    return f"({_TEXT} AND field.value {sign} ?)" if isinstance(value, str) else f"{_NUMBER} {sign} ?", [value]
