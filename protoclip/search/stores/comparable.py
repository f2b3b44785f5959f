"""What the values of metadata count as in a condition, the same as in the local index.

A value is a text, a number, a truth value or null, and a text may be a number or a truth value too: columns of a
CSV are texts. Lists and objects are none of these, and are only there. Engines store it beside the metadata, made
here once, so that all of them compare alike.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from protoclip.search.conditions import within_64_bits

_JSON_NUMBER = re.compile(r"[ \t\n\r]*(-?(?:0|[1-9][0-9]*))(\.[0-9]+)?([eE][+-]?[0-9]+)?[ \t\n\r]*")
_INTEGER_DIGITS = 30
_SURROGATES = re.compile("[\ud800-\udfff]")
# Sorts where a surrogate does in UTF-8, and is in no text that people write: the last character before them and
# the last of all, neither of which is assigned.
_FOR_A_SURROGATE = "\ud7ff\U0010ffff"


@dataclass(frozen=True)
class Comparable:
    """What one value counts as; None: it is no such thing.

    Attributes:
        text: in UTF-8, up to the first NUL, where SQLite ends a text too.
        number: no NaN, and no integer beyond 64 bits.
        flag: a truth value.
        null: JSON's null.
    """

    text: str | None = None
    number: float | int | None = None
    flag: bool | None = None
    null: bool = False


def comparable(value: Any) -> Comparable:
    """What a value of metadata, as `json.loads` gives it, counts as."""
    if value is None:
        return Comparable(null=True)
    if isinstance(value, bool):
        return Comparable(flag=value)
    if isinstance(value, int | float):
        return Comparable(number=within_64_bits(value))
    if isinstance(value, str):
        text = plain_text(value)
        return Comparable(text=text, number=_number_in(text), flag={"true": True, "false": False}.get(text))
    return Comparable()


def comparable_fields(metadata: Mapping[str, Any]) -> dict[str, Comparable]:
    """By the name of the field."""
    return {plain_text(name): comparable(value) for name, value in metadata.items()}


def plain_text(text: str) -> str:
    """A text as it is compared."""
    return _SURROGATES.sub(_FOR_A_SURROGATE, text.partition("\0")[0])


def exact_number(number: float) -> int | float:
    """A number whose decimal digits, as Python writes them, sort as the numbers do: integers are written out.

    JSON and SQL's `numeric` have no infinity: beyond the largest float64 all integers are one.
    """
    if isinstance(number, float):
        if math.isinf(number):
            return 10**309 if number > 0 else -(10**309)
        return int(number) if number.is_integer() else number
    return number


def sortable_number(number: float) -> str:
    """19 hexadecimal digits that sort, and are equal, as the numbers are, integers of 64 bits among floats.

    The float64 below or at the number, its bits in the order of their values; then how far an integer is above it.
    """
    below, above = number + 0.0, 0
    if isinstance(number, int):
        if int(below) > number:
            below = math.nextafter(below, -math.inf)
        above = number - int(below)
    bits = int.from_bytes(struct.pack(">d", below), "big")
    ordered = bits ^ (0xFFFFFFFFFFFFFFFF if bits >> 63 else 0x8000000000000000)
    return f"{ordered:016x}{above:03x}"


def _number_in(text: str) -> float | int | None:
    """The number that a text is in JSON."""
    found = _JSON_NUMBER.fullmatch(text)
    if found is None:
        return None
    if found[2] or found[3] or len(found[1]) > _INTEGER_DIGITS:
        return float(text)
    return within_64_bits(int(found[1]))
