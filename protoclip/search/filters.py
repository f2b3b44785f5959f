"""Conditions on metadata, as SQL with bound values: no name and no value becomes part of a statement.

{"price": {"lt": 50}, "stock": True}                 both
{"or": [{"color": "red"}, {"color": {"in": [...]}}]}  one of them
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from protoclip.contract.errors import ConfigError

Where: TypeAlias = Mapping[str, Any]
Condition: TypeAlias = tuple[str, list[Any]]

# Where nothing is asked of an entry.
ALL: Condition = ("1", [])
_COMPARED = {"lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_OPERATORS = ("eq", "ne", *_COMPARED, "in", "exists")
# Columns of a CSV are texts: one that is written like a number counts as one. json_type fails on what is no JSON.
_NUMBER = (
    "CASE field.type WHEN 'integer' THEN field.value WHEN 'real' THEN field.value WHEN 'text' THEN "
    "CASE WHEN json_valid(field.value) THEN CASE WHEN json_type(field.value) IN ('integer', 'real') THEN "
    "json_extract(field.value, '$') END END END"
)
_TEXT = "field.type = 'text'"
_LISTED = "(SELECT value FROM json_each(?))"
_MAX_DEPTH = 20
_MAX_CONDITIONS = 1000


def condition_of(where: Where) -> Condition:
    """A condition on a row of the table `entries`, and its values, which may be NumPy's numbers too.

    Raises:
        ConfigError: an unknown operator, a value that it can't compare, or too many conditions.
    """
    sql, values = _condition(where, 0)
    number = sql.count("EXISTS")
    if number > _MAX_CONDITIONS:
        raise ConfigError(
            f"where: {number} conditions are more than {_MAX_CONDITIONS}: one 'in' takes any number of values"
        )
    return sql, values


def _condition(where: Where, depth: int) -> Condition:
    if not isinstance(where, Mapping):
        raise ConfigError(f"where={where!r} must be a mapping, like {{'price': {{'lt': 50}}}}")
    if depth > _MAX_DEPTH:
        raise ConfigError(f"where: more than {_MAX_DEPTH} conditions inside each other")
    parts = []
    for name, wanted in where.items():
        if not isinstance(name, str):
            raise ConfigError(f"where: {name!r} is no name of a field")
        if name in ("and", "or"):
            parts.append(_several(name, wanted, depth))
        else:
            parts.append(_of_field(name, wanted))
    return _joined("and", parts)


def _several(how: str, wanted: Any, depth: int) -> Condition:
    if isinstance(wanted, str) or not isinstance(wanted, Sequence):
        raise ConfigError(f"where: {how!r} needs a list of conditions")
    return _joined(how, [_condition(one, depth + 1) for one in wanted])


def _joined(how: str, parts: Sequence[Condition]) -> Condition:
    if not parts:
        return ALL if how == "and" else ("0", [])
    if len(parts) == 1:
        return parts[0]
    # By halves: SQLite refuses expressions that are 1000 deep, and a row of ORs is as deep as it is long.
    middle = len(parts) // 2
    (left, first), (right, second) = _joined(how, parts[:middle]), _joined(how, parts[middle:])
    return f"({left} {how.upper()} {right})", [*first, *second]


def _of_field(name: str, wanted: Any) -> Condition:
    comparisons = wanted if isinstance(wanted, Mapping) else {"eq": wanted}
    if not comparisons:
        raise ConfigError(f"where: {name!r} has no condition: use one of {', '.join(_OPERATORS)}")
    return _joined("and", [_compared(name, operator, value) for operator, value in comparisons.items()])


def _compared(name: str, operator: Any, value: Any) -> Condition:
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if operator in _COMPARED:
        return _any_value(name, _ordered(name, operator, value))
    if operator == "eq":
        return _any_value(name, _equal(name, value))
    if operator == "ne":
        sql, values = _any_value(name, _equal(name, value))
        return f"NOT {sql}", values
    if operator == "in":
        if isinstance(value, str | Mapping) or not isinstance(value, Sequence):
            raise ConfigError(f"where: 'in' of {name!r} needs a list of values")
        return _any_value(name, _one_of(name, value))
    if operator == "exists":
        if not isinstance(value, bool):
            raise ConfigError(f"where: 'exists' of {name!r} is true or false, not {value!r}")
        sql, values = _any_value(name, ("field.type != 'null'", []))
        return (sql if value else f"NOT {sql}"), values
    raise ConfigError(f"where: {operator!r} of {name!r} is unknown: use one of {', '.join(_OPERATORS)}")


def _any_value(name: str, condition: Condition) -> Condition:
    sql, values = condition
    field = f"EXISTS (SELECT 1 FROM json_each(entries.metadata) AS field WHERE field.key = ? AND {sql})"
    return field, [_bound(name), *values]


def _equal(name: str, value: Any) -> Condition:
    if value is None:
        return "field.type = 'null'", []
    if isinstance(value, bool):
        written = "true" if value else "false"
        return f"(field.type = ? OR ({_TEXT} AND field.value = ?))", [written, written]
    if isinstance(value, str):
        return f"({_TEXT} AND field.value = ?)", [_bound(value)]
    return f"{_NUMBER} = ?", [_number(name, value)]


def _one_of(name: str, wanted: Sequence[Any]) -> Condition:
    """Equal to one of any number of values, which are one bound value for each type."""
    values = [one.item() if isinstance(one, np.generic) else one for one in wanted]
    texts = [_bound(one) for one in values if isinstance(one, str)]
    plain = [one for one in values if one is None or isinstance(one, bool)]
    numbers = [_number(name, one) for one in values if one is not None and not isinstance(one, str | bool)]
    parts = [_equal(name, one) for one in dict.fromkeys(plain)]
    if texts:
        parts.append((f"({_TEXT} AND field.value IN {_LISTED})", [json.dumps(texts)]))
    if numbers:
        # JSON has no infinity; SQLite reads a number that is too large as one.
        parts.append((f"{_NUMBER} IN {_LISTED}", [json.dumps(numbers).replace("Infinity", "9e999")]))
    return _joined("or", parts)


def _ordered(name: str, operator: str, value: Any) -> Condition:
    sign = _COMPARED[operator]
    if isinstance(value, str):
        return f"({_TEXT} AND field.value {sign} ?)", [_bound(value)]
    return f"{_NUMBER} {sign} ?", [_number(name, value)]


def _number(name: str, value: Any) -> float | int:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        raise ConfigError(
            f"where: {name!r} can't be compared with {value!r}: use a number, a text, or true or false"
        )
    # SQLite's integers have 64 bits, and it reads larger ones in JSON as float64.
    if isinstance(value, float) or -(2**63) <= value < 2**63:
        return value
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _bound(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"where: {text!r} is no text in UTF-8") from error
    if "\0" in text:
        # SQLite's JSON functions end a text there.
        raise ConfigError(f"where: {text!r} can't be compared, as it holds the character NUL")
    return text
