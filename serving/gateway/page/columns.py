"""The columns of an index's metadata, as a sample of its entries shows them, and filters on them."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from serving.gateway.errors import invalid

from .asked import LEAST, MOST, Condition
from .cards import visible

Kind = Literal["number", "flag", "choice", "text"]
MAX_CHOICES = 40
_MAX_COLUMNS = 24
_LONGEST_CHOICE = 60
# Words that join conditions, and can't be the name of a field in one.
_JOINING = ("and", "or")
_GROUPED = re.compile(r"-?[1-9]\d{0,2}(,\d{3})+")
YES, NO = "yes", "no"


@dataclass(frozen=True)
class Column:
    """A field of the metadata that can be filtered by.

    Attributes:
        kind: number: a range; flag: yes or no; choice: some of `values`; text: exactly what is typed.
        values: of a choice, the most frequent first, without those that a form would send changed.
        least: of a number, in the sample.
        most: of a number, in the sample.
    """

    name: str
    kind: Kind
    values: tuple[str, ...] = ()
    least: float = math.nan
    most: float = math.nan


def find_columns(metadata: Sequence[Mapping[str, Any]]) -> tuple[Column, ...]:
    """The columns of a sample of metadata, in the order in which they appear; at most 24.

    Fields that hold lists or mappings can't be filtered by, nor can one that is called like a word that joins
    conditions, or whose name a form would send changed. A text that is written like a number, or is true or false,
    counts as one, as in conditions.
    """
    held: dict[str, list[Any]] = {}
    for entry in metadata:
        for name, value in entry.items():
            if value is not None:
                held.setdefault(name, []).append(value)
    found = (_column(name, values) for name, values in held.items() if _can_be_sent(name) and name not in _JOINING)
    return tuple(column for column in found if column is not None)[:_MAX_COLUMNS]


def number_of(value: Any) -> float | None:
    """The number that a value is or, being a text, is written like; None for anything else, or not finite."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):  # the second: a text that begins with thousands of brackets
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def flag_of(value: Any) -> bool | None:
    """Yes or no; None for anything else."""
    return {"true": True, "false": False}.get(value) if isinstance(value, str) else _bool(value)


def where_of(conditions: Iterable[Condition], columns: Sequence[Column]) -> dict[str, Any]:
    """The conditions as `Index.search` takes them.

    Raises:
        Refused: 400 for an unknown column, or a value that its kind does not have.
    """
    known = {column.name: column for column in columns}
    where: dict[str, Any] = {}
    for condition in conditions:
        column = known.get(condition.column)
        if column is None:
            raise invalid(f"{condition.column[:64]!r} is no column to filter by: reset the filters")
        operators = where.setdefault(column.name, {})
        if condition.operator in (LEAST, MOST):
            operators["ge" if condition.operator == LEAST else "le"] = _asked_number(column, condition.value)
        else:
            operators.setdefault("in", []).extend(_alternatives(column, condition.value))
    return where


def _column(name: str, values: Sequence[Any]) -> Column | None:
    if any(isinstance(value, list | dict) for value in values):
        return None
    if all(flag_of(value) is not None for value in values):
        return Column(name, "flag")
    numbers = [number_of(value) for value in values]
    if all(number is not None for number in numbers):
        known = [number for number in numbers if number is not None]
        return Column(name, "number", least=min(known), most=max(known))
    texts = Counter(_text_of(value) for value in values)
    is_short = all(len(text) <= _LONGEST_CHOICE for text in texts)
    if is_short and len(texts) <= MAX_CHOICES and len(texts) <= max(2, len(values) // 2):
        return Column(name, "choice", tuple(text for text, _ in texts.most_common() if _can_be_sent(text)))
    return Column(name, "text")


def _text_of(value: Any) -> str:
    """A value as a condition names it."""
    return json.dumps(value) if isinstance(value, bool) else str(value)


def _can_be_sent(text: str) -> bool:
    """Whether a form's field sends it as it is, and not nothing or another line's end."""
    return bool(text.strip()) and not any(one in text for one in "\0\r\n") and visible(text) == text


def _asked_number(column: Column, value: str) -> float:
    if _GROUPED.fullmatch(value):
        raise invalid(
            f"{column.name[:64]}: {value[:40]!r} may be two numbers: write the comma as a point, or leave it out"
        )
    number = number_of(value.replace(",", "."))
    if column.kind != "number" or number is None:
        raise invalid(f"{column.name[:64]}: {value[:40]!r} is no number: type one like 12.5, or leave it out")
    return number


def _alternatives(column: Column, value: str) -> list[Any]:
    if column.kind == "flag":
        if value not in (YES, NO):
            raise invalid(f"{column.name[:64]}: {value[:40]!r} is neither {YES} nor {NO}")
        return [value == YES]
    # In a column of several types a value that looks like a number may be a text or a number, and so may true.
    if (flag := flag_of(value)) is not None:
        return [value, flag]
    return [value] if number_of(value) is None else [value, json.loads(value)]


def _bool(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None
