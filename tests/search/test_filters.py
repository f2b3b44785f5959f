"""Conditions on metadata: typed, of any field's name, and never a part of a statement."""

from __future__ import annotations

import math
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protoclip.contract.errors import ConfigError
from protoclip.search import Index

ODD = [
    "a.b",
    "$",
    "$.price",
    '"',
    "\\",
    "new\nline",
    "",
    "[0]",
    "名前",
    "x' OR '1'='1",
    '") --',
    "' ; DROP TABLE entries",
]
ENTRIES: dict[str, dict[str, Any]] = {
    "shoe": {"price": 49, "stock": True, "color": "red", "tags": ["new"], "product": 1},
    "boot": {"price": 50.0, "stock": False, "color": "black", "product": 1},
    "hat": {"price": "49", "stock": None, "color": "Red", "product": 1.0},
    "table": {"price": "50.5", "stock": "true", "color": "007", "tags": "{", "product": "1"},
    "huge": {"price": 10**30, "stock": 1, "product": True},
    "bare": {},
    "odd": {name: number for number, name in enumerate(ODD)},
}


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    index = Index.create(tmp_path_factory.mktemp("filters") / "x.index", "0123456789abcdef", len(ENTRIES))
    index.add(np.eye(len(ENTRIES)), list(ENTRIES), list(ENTRIES.values()))
    return index


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({}, "shoe boot hat table huge bare odd"),
        ({"price": {"lt": 50}}, "shoe hat"),
        ({"price": {"le": 50}}, "shoe boot hat"),
        ({"price": {"gt": 49}}, "boot table huge"),
        ({"price": {"ge": 49, "lt": 50.5}}, "shoe boot hat"),
        ({"price": 50}, "boot"),
        ({"price": 50.5}, "table"),
        ({"price": "49"}, "hat"),
        ({"price": {"lt": "5"}}, "hat"),
        ({"color": 7}, ""),
        ({"color": "007"}, "table"),
        ({"tags": {"lt": 1}}, ""),
        ({"price": 10**30}, "huge"),
        ({"price": {"lt": -(10**30)}}, ""),
        ({"price": {"lt": math.inf}}, "shoe boot hat table huge"),
        ({"stock": True}, "shoe table"),
        ({"stock": "true"}, "table"),
        ({"stock": 1}, "huge"),
        ({"stock": None}, "hat"),
        ({"stock": {"ne": True}}, "boot hat huge bare odd"),
        ({"stock": {"exists": True}}, "shoe boot table huge"),
        ({"stock": {"exists": False}}, "hat bare odd"),
        ({"color": {"in": ["red", "black", 3]}}, "shoe boot"),
        ({"color": {"in": []}}, ""),
        ({"color": "red", "price": {"lt": 10}}, ""),
        ({"or": [{"color": "Red"}, {"price": {"gt": 1000}}]}, "hat huge"),
        ({"or": []}, ""),
        ({"and": []}, "shoe boot hat table huge bare odd"),
        ({"and": [{"stock": True}, {"or": [{"color": "red"}, {"color": "black"}]}]}, "shoe"),
        ({"tags": "new"}, ""),
        ({"missing": {"ne": 3}}, "shoe boot hat table huge bare odd"),
        *(({name: number}, "odd") for number, name in enumerate(ODD)),
        *(({name: {"lt": number}}, "") for number, name in enumerate(ODD)),
        ({"color": "x' OR '1'='1"}, ""),
        ({"x' OR '1'='1": "x"}, ""),
    ],
)
def test_what_fits(index: Index, where: dict[str, Any], expected: str) -> None:
    hits = index.search(np.ones(len(ENTRIES)), 10, where=where)
    assert [hit.id for hit in hits] == expected.split()
    assert [entry.id for entry in index.iterate(where)] == expected.split()
    assert index.count(where) == len(expected.split())
    assert index.count() == len(ENTRIES)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ([], "must be a mapping"),
        ({"price": {"less": 3}}, "'less' of 'price' is unknown: use one of eq, ne, lt"),
        ({"price": {}}, "'price' has no condition"),
        ({"price": {"lt": True}}, "'price' can't be compared with True"),
        ({"price": {"lt": math.nan}}, "can't be compared with nan"),
        ({"price": [1]}, r"can't be compared with \[1\]"),
        ({"price": {"in": "red"}}, "'in' of 'price' needs a list"),
        ({"price": {"exists": 1}}, "'exists' of 'price' is true or false"),
        ({"or": {"price": 1}}, "'or' needs a list of conditions"),
        ({"or": ["price"]}, "must be a mapping"),
        ({3: 1}, "3 is no name of a field"),
        ({"caf\udce9": 1}, "no text in UTF-8"),
        ({"color": {"lt": "\ud800"}}, "no text in UTF-8"),
    ],
)
def test_what_can_not_be_asked(index: Index, where: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        index.search(np.ones(len(ENTRIES)), where=where)


def test_conditions_inside_each_other_end_somewhere(index: Index) -> None:
    where: dict[str, Any] = {"price": 1}
    for _ in range(30):
        where = {"and": [where]}
    with pytest.raises(ConfigError, match="more than 20 conditions inside each other"):
        index.count(where)


def test_values_are_told_apart_however_they_print(index: Index) -> None:
    """What fits a condition is kept for the next page."""

    class Color(StrEnum):
        FIRST, SECOND = "red", "black"

        def __repr__(self) -> str:
            return "Color"

    for where, expected in (
        ({"color": Color.FIRST}, ["shoe"]),
        ({"color": Color.SECOND}, ["boot"]),
        ({"stock": 1}, ["huge"]),
        ({"stock": True}, ["shoe", "table"]),
    ):
        assert sorted(hit.id for hit in index.search(np.ones(index.dim), where=where)) == expected


def test_no_connection_keeps_what_a_thousand_conditions_took(index: Index) -> None:
    for where, kept in (
        ({"or": [{"price": {"lt": number}} for number in range(900)]}, False),
        ({"price": 1}, True),
    ):
        index.search(np.ones(index.dim), 1, where=where)
        assert bool(index._database._idle) == kept


def test_the_best_of_each_group(index: Index) -> None:
    query = np.arange(len(ENTRIES), 0, -1)
    # 1 and 1.0 are one value, as in JSON; true and "1" are others; what has no such field is like nothing else.
    found = index.search(query, 10, group_by="product")
    assert [hit.id for hit in found] == ["shoe", "table", "huge", "bare", "odd"]
    assert [hit.id for hit in index.search(query, 1, group_by="product", offset=1)] == ["table"]
    assert [hit.id for hit in index.search(query, 2, group_by="product", where={"stock": False})] == ["boot"]


def test_groups_are_looked_for_as_far_as_it_takes(tmp_path: Path) -> None:
    """500 photos of one product before the first of another."""
    with Index.create(tmp_path / "x.index", "0123456789abcdef", 2) as index:
        vectors = np.stack([np.ones(510), np.linspace(0, 1, 510)], axis=1)
        own = [{"product": "a" if row < 500 else row} for row in range(510)]
        index.add(vectors, [str(row) for row in range(510)], own)
        found = index.search([[1.0, 0.0], [1.0, 2.0]], 3, group_by="product")
    assert [[hit.id for hit in hits] for hits in found] == [["0", "500", "501"], ["509", "508", "507"]]
