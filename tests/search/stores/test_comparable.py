"""What values count as in engines, against SQLite and against Python's own order."""

from __future__ import annotations

import json
import math
import sqlite3
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protoclip.search.stores.comparable import comparable, exact_number, plain_text, sortable_number

NUMBERS = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-5, 5),
    st.floats(allow_nan=False),
    st.sampled_from([0.0, -0.0, 2.0**53, 2**53 + 1, 2.0**63 - 1024, 2**63 - 1024, math.inf, -math.inf, 5e-324]),
)


def _value(number: float) -> Any:
    return number if isinstance(number, float) and math.isinf(number) else Fraction(number)


@given(NUMBERS, NUMBERS)
def test_digits_sort_as_numbers_do(one: float, other: float) -> None:
    assert (sortable_number(one) < sortable_number(other)) == (_value(one) < _value(other))
    assert (sortable_number(one) == sortable_number(other)) == (_value(one) == _value(other))
    assert len(sortable_number(one)) == 19


@given(NUMBERS, NUMBERS)
def test_written_decimals_sort_as_numbers_do(one: float, other: float) -> None:
    """As PostgreSQL's numeric reads them: the digits and no more."""
    first, second = (Fraction(json.dumps(exact_number(number))) for number in (one, other))
    assert (first < second) == (_value(one) < _value(other))
    assert (first == second) == (_value(one) == _value(other))


TEXTS = [
    *(
        "0",
        "-0",
        "007",
        "1.",
        ".5",
        "1e5",
        "1E+5",
        "1e",
        " 49\t\n",
        "\u00a049",
        "+1",
        "1_0",
        "0x1",
        "NaN",
        "Infinity",
    ),
    *("9223372036854775807", "9223372036854775808", "-9223372036854775809", "1e999", "-1e999", "9" * 400, "1.5e3"),
    *("true", "false", "null", '"a"', "[1]", "", "-", "--1", "1 2", "٤٩", "1\0", "49\0x", "True"),
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_the_number_that_sqlite_reads(text: str) -> None:
    plain = plain_text(text)
    number = "CASE WHEN json_type(?1) IN ('integer', 'real') THEN json_extract(?1, '$') END"
    query = f"SELECT CASE WHEN json_valid(?1) THEN {number} END"
    (expected,) = sqlite3.connect(":memory:").execute(query, (plain,)).fetchone()
    found = comparable(text).number
    assert found == expected
    assert comparable(text).flag == {"true": True, "false": False}.get(plain)


def test_where_a_text_ends_and_surrogates_sort() -> None:
    (kept,) = (
        sqlite3.connect(":memory:").execute("SELECT value FROM json_each(?)", ('{"a": "x\\u0000y"}',)).fetchone()
    )
    assert plain_text("x\0y") == kept
    texts = ["a", "a\ud7fe", "a\ud7ffz", "a\udce9", "a\ue000", "a\U0001f600"]
    in_utf8 = sorted(texts, key=lambda text: text.encode("utf-8", "surrogatepass"))
    assert sorted(texts, key=lambda text: plain_text(text).encode()) == in_utf8
