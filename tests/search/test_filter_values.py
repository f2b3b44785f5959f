"""Conditions on metadata against the same ones in Python, in any number."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protoclip.contract.errors import ConfigError, IndexFileError, ProtoclipError
from protoclip.search import Index
from protoclip.search.connections import sqlite_errors

VALUES: list[Any] = [0, 1, 2.5, -7, 2**63, 10**400, "one", "yes", "", 'a"b\n👠', True, False, None, [1], 0.1]


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    """One entry for each of `VALUES` in the field `n`, named by its JSON, and one without the field."""
    with Index.create(tmp_path / "index", "0123456789abcdef", 2) as index:
        metadata = [*({"n": value} for value in VALUES), {}]
        index.add(np.ones((len(metadata), 2)), [*map(json.dumps, VALUES), "without"], metadata)
        yield index


def _found(index: Index, where: Any) -> list[str]:
    return [entry.id for entry in index.iterate(where)]


@pytest.mark.parametrize(
    "value", [value for value in VALUES if not isinstance(value, list)], ids=lambda value: json.dumps(value)[:20]
)
def test_one_value_is_told_from_its_look_alikes(index: Index, value: Any) -> None:
    for where in ({"n": value}, {"n": {"in": [value]}}, {"n": {"in": [value, "gone", -1, value]}}):
        assert _found(index, where) == [json.dumps(value)]
    rest = [json.dumps(other) for other in VALUES if json.dumps(other) != json.dumps(value)]
    assert _found(index, {"n": {"ne": value}}) == [*rest, "without"]


def test_one_of_many_values(index: Index) -> None:
    numbers = list(range(-20_000, 20_000))
    for wanted in (numbers, range(-20_000, 20_000), np.array(numbers), tuple(np.array(numbers))):
        assert _found(index, {"n": {"in": wanted}}) == ["0", "1", "-7"]
    mixed = [*numbers, "one", "True", "2.5", True, None]
    assert _found(index, {"n": {"in": mixed}}) == ["0", "1", "-7", '"one"', "true", "null"]
    assert _found(index, {"n": {"in": []}}) == []
    assert len(index.search(np.ones(2), 50, where={"n": {"in": numbers}})) == 3


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.int64(1), "1"),
        (np.float32(2.5), "2.5"),
        (np.float64(0.1), "0.1"),
        (np.bool_(True), "true"),
        (np.str_("one"), '"one"'),
        (np.uint64(2**63), str(2**63)),
    ],
)
def test_numbers_of_numpy(index: Index, value: Any, expected: str) -> None:
    assert _found(index, {"n": value}) == _found(index, {"n": {"in": [value]}}) == [expected]
    assert _found(index, {"n": {"gt": np.float32(2), "lt": np.int64(3)}}) == ["2.5"]
    assert _found(index, {"n": {"exists": np.bool_(False)}}) == ["null", "without"]


def test_many_conditions(index: Index) -> None:
    assert _found(index, {"or": [{"n": number} for number in range(-500, 500)]}) == ["0", "1", "-7"]
    assert _found(index, {"and": [{"n": {"ne": number}} for number in range(2, 1000)]}) == [
        *map(json.dumps, VALUES),
        "without",
    ]
    with pytest.raises(ConfigError, match="where: 1001 conditions are more than 1000: one 'in' takes any number"):
        index.count({"or": [{"n": number} for number in range(1001)]})


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"n": {"in": ["a", [1]]}}, r"'n' can't be compared with \[1\]"),
        ({"n": {"in": [float("nan")]}}, "'n' can't be compared with nan"),
        ({"n": {"in": ["\udce9"]}}, "is no text in UTF-8"),
        ({"n": {"in": ["x\0y"]}}, "holds the character NUL"),
        ({"n": {"in": "abc"}}, "'in' of 'n' needs a list of values"),
        ({"n": {"in": np.float64(1)}}, "'in' of 'n' needs a list of values"),
        ({"n": np.array([1, 2])}, r"'n' can't be compared with \[1, 2\]"),
    ],
)
def test_what_cant_be_compared(index: Index, where: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        index.count(where)


@pytest.mark.parametrize("number", [2.5, "3", True, None])
def test_a_number_of_hits_is_whole(index: Index, number: Any) -> None:
    with pytest.raises(ConfigError, match=f"k={number!r} must be a whole number"):
        index.search(np.ones(2), number)
    with pytest.raises(ConfigError, match=f"offset={number!r} must be a whole number"):
        index.search(np.ones(2), 1, offset=number)
    assert len(index.search(np.ones(2), np.int64(2))) == 2  # type: ignore[arg-type]


def test_a_refused_statement_is_no_reason_to_build_again(tmp_path: Path) -> None:
    with (
        pytest.raises(ProtoclipError, match="SQLite refused what was asked for: near") as caught,
        sqlite_errors(tmp_path / "index.sqlite"),
    ):
        sqlite3.connect(":memory:").execute("SELEKT 1")
    assert not isinstance(caught.value, IndexFileError)
    assert "build the index again" not in str(caught.value)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ([1], "number text"),
        (["1"], "text"),
        ([True], "truth word"),
        (["true"], "word"),
        (["1", True], "text truth word"),
    ],
)
def test_types_in_a_list_are_those_of_a_single_value(tmp_path: Path, wanted: list[Any], expected: str) -> None:
    values = {"number": 1, "text": "1", "truth": True, "word": "true"}
    with Index.create(tmp_path / "types", "0123456789abcdef", 2) as index:
        index.add(np.ones((4, 2)), list(values), [{"n": value} for value in values.values()])
        assert _found(index, {"n": {"in": wanted}}) == expected.split()
        assert _found(index, {"or": [{"n": one} for one in wanted]}) == expected.split()
