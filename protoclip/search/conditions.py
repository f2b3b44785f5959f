"""Conditions on metadata, read and checked once for every store: each translates what `parse` gives.

{"price": {"lt": 50}, "stock": True}                 both
{"or": [{"color": "red"}, {"color": {"in": [...]}}]}  one of them
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypeVar

import numpy as np

from protoclip.contract.errors import ConfigError

Where: TypeAlias = Mapping[str, Any]
Value: TypeAlias = str | bool | int | float | None
How: TypeAlias = Literal["and", "or"]

ORDERED = ("lt", "le", "gt", "ge")
_OPERATORS = ("eq", "ne", *ORDERED, "in", "exists")
_JOINS: Mapping[str, How] = {"and": "and", "or": "or"}
_MAX_DEPTH = 20
_MAX_CONDITIONS = 1000
_T = TypeVar("_T")


@dataclass(frozen=True)
class Compared:
    """One field against one value.

    Attributes:
        name: of the field.
        operator: one of eq, ne, lt, le, gt, ge, in and exists.
        value: of `in` a tuple of values, of `exists` a bool, of the four that order a text or a number. A number
            is no NaN, and no integer beyond 64 bits: those are floats, and infinite where they are too large.
    """

    name: str
    operator: str
    value: Value | tuple[Value, ...]


@dataclass(frozen=True)
class Joined:
    """All of the parts, or one of them. Of no parts `and` holds for every entry, and `or` for none."""

    how: How
    parts: tuple[Condition, ...]


Condition: TypeAlias = Compared | Joined
ALL = Joined("and", ())


def parse(where: Where | None) -> Condition:
    """`where` as a tree; its values may be NumPy's numbers too. None is no condition.

    Raises:
        ConfigError: an unknown operator, a value that it can't compare, or too many conditions.
    """
    if where is None:
        return ALL
    condition = _condition(where, 0)
    number = sum(1 for _ in comparisons(condition))
    if number > _MAX_CONDITIONS:
        raise ConfigError(
            f"where: {number} conditions are more than {_MAX_CONDITIONS}: one 'in' takes any number of values"
        )
    return condition


def comparisons(condition: Condition) -> Iterator[Compared]:
    """All comparisons in a tree."""
    if isinstance(condition, Compared):
        yield condition
        return
    for part in condition.parts:
        yield from comparisons(part)


def by_halves(parts: Sequence[_T], join: Callable[[_T, _T], _T]) -> _T:
    """Joins one or more in pairs: parsers refuse what is 1000 deep, and a row of ORs is as deep as it is long."""
    if len(parts) == 1:
        return parts[0]
    middle = len(parts) // 2
    return join(by_halves(parts[:middle], join), by_halves(parts[middle:], join))


def _condition(where: Where, depth: int) -> Condition:
    if not isinstance(where, Mapping):
        raise ConfigError(f"where={where!r} must be a mapping, like {{'price': {{'lt': 50}}}}")
    if depth > _MAX_DEPTH:
        raise ConfigError(f"where: more than {_MAX_DEPTH} conditions inside each other")
    parts = []
    for name, wanted in where.items():
        if not isinstance(name, str):
            raise ConfigError(f"where: {name!r} is no name of a field")
        if name in _JOINS:
            parts.append(_several(_JOINS[name], wanted, depth))
        else:
            parts.append(_of_field(name, wanted))
    return _joined("and", parts)


def _several(how: How, wanted: Any, depth: int) -> Condition:
    if isinstance(wanted, str) or not isinstance(wanted, Sequence):
        raise ConfigError(f"where: {how!r} needs a list of conditions")
    return _joined(how, [_condition(one, depth + 1) for one in wanted])


def _joined(how: How, parts: Sequence[Condition]) -> Condition:
    return parts[0] if len(parts) == 1 else Joined(how, tuple(parts))


def _of_field(name: str, wanted: Any) -> Condition:
    compared = wanted if isinstance(wanted, Mapping) else {"eq": wanted}
    if not compared:
        raise ConfigError(f"where: {name!r} has no condition: use one of {', '.join(_OPERATORS)}")
    return _joined("and", [_compared(name, operator, value) for operator, value in compared.items()])


def _compared(name: str, operator: Any, value: Any) -> Compared:
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if operator not in _OPERATORS:
        raise ConfigError(f"where: {operator!r} of {name!r} is unknown: use one of {', '.join(_OPERATORS)}")
    if operator == "in":
        if isinstance(value, str | Mapping) or not isinstance(value, Sequence):
            raise ConfigError(f"where: 'in' of {name!r} needs a list of values")
        plain = [one.item() if isinstance(one, np.generic) else one for one in value]
        found: Value | tuple[Value, ...] = tuple(_value(name, one) for one in plain)
    elif operator == "exists":
        if not isinstance(value, bool):
            raise ConfigError(f"where: 'exists' of {name!r} is true or false, not {value!r}")
        found = value
    elif operator in ORDERED:
        found = _text(value) if isinstance(value, str) else _number(name, value)
    else:
        found = _value(name, value)
    return Compared(_text(name), operator, found)


def _value(name: str, value: Any) -> Value:
    if value is None or isinstance(value, bool):
        return value
    return _text(value) if isinstance(value, str) else _number(name, value)


def _number(name: str, value: Any) -> float | int:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        raise ConfigError(
            f"where: {name!r} can't be compared with {value!r}: use a number, a text, or true or false"
        )
    return within_64_bits(value)


def within_64_bits(value: float) -> float | int:
    """A number as the local index reads it in JSON: an integer of more than 64 bits is a float64."""
    if isinstance(value, float) or -(2**63) <= value < 2**63:
        return value
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"where: {text!r} is no text in UTF-8") from error
    if "\0" in text:
        # SQLite's JSON functions end a text there.
        raise ConfigError(f"where: {text!r} can't be compared, as it holds the character NUL")
    return text
